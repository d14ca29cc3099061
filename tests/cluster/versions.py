"""An older version of the Gateway, installed beside this one.

OPENSOUL_OLDER says which: a commit or tag of this repository, or the path of an installed program
`opensoul`. By default OLDER.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

OLDER = "f968547a9544"
"""The first version with `store.url`, whose schema has the migrations up to 0010."""
REPOSITORY = Path(__file__).parents[2]
PINS = ("run.txt", "server.txt")
PATIENCE = 900.0
"""A hang guard, in seconds, for an installation."""

_MAIN = "import sys; from opensoul.app.cli import main; sys.exit(main())"
_BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
_ABOUT = """
import opensoul
from opensoul.adapters.persistence.postgres.migrations import scripts
print(opensoul.__file__, *(number for number, _, _ in scripts()))"""


@dataclass(frozen=True, slots=True)
class Installed:
    """A version: what it is called, its program, the file that it imports as `opensoul`, and the
    numbers of the migrations that it has."""

    name: str
    program: Path
    package: Path
    migrations: frozenset[int]


def this_version() -> Installed:
    """The version of this environment."""
    return _described("this version", Path(sys.executable).with_name("opensoul"))


def older_version(home: Path) -> Installed:
    """The version of OPENSOUL_OLDER, installed in `home` unless it is a program already. Skips the
    test where the history of git is not there."""
    chosen = os.environ.get("OPENSOUL_OLDER") or OLDER
    if Path(chosen).is_file():
        return _described(chosen, Path(chosen).absolute())
    source = home / "source"
    _unpack(chosen, source)
    if _has_the_same_pins(source):
        program = _install(source, home / "environment")
    else:
        _run([source / "scripts" / "setup", "dev"], source)
        program = source / ".venv" / "bin" / "opensoul"
    found = _described(chosen, program)
    assert home in found.package.parents, f"{chosen} imports {found.package}"
    return found


def _unpack(commit: str, source: Path) -> None:
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("no history of git to take the older version from: set OPENSOUL_OLDER")
    archive = subprocess.run(
        [git, "-C", REPOSITORY, "archive", commit], capture_output=True, check=False
    )
    if archive.returncode:
        if os.environ.get("OPENSOUL_OLDER"):
            pytest.fail(f"OPENSOUL_OLDER: {archive.stderr.decode()}")
        pytest.skip(f"the history of git that is here has no {commit}: set OPENSOUL_OLDER")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(source, filter="data")


def _has_the_same_pins(source: Path) -> bool:
    """Whether the libraries of this environment are those that it wants."""
    pairs = [(source / "requirements" / name, REPOSITORY / "requirements" / name) for name in PINS]
    return all(theirs.read_text() == ours.read_text() for theirs, ours in pairs if theirs.exists())


def _install(source: Path, environment: Path) -> Path:
    """Its wheel in an environment of its own, which reads the libraries from this one. Files with
    paths are not read in a folder that such a file names, so this version is not there."""
    wheel = _run([sys.executable, "-c", _BUILD, environment.parent], source).splitlines()[-1]
    venv.create(environment, symlinks=True, with_pip=False)
    folder = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    shutil.unpack_archive(environment.parent / wheel, folder, "zip")
    libraries = sysconfig.get_path("purelib")
    (folder / "libraries.pth").write_text(f"{libraries}\n")
    python = environment / "bin" / "python"
    program = environment / "bin" / "opensoul"
    program.write_text(f"#!{python}\n{_MAIN}\n")
    program.chmod(0o755)
    return program


def _described(name: str, program: Path) -> Installed:
    file, *numbers = _run([program.with_name("python"), "-c", _ABOUT], program.parent).split()
    return Installed(name, program, Path(file), frozenset(map(int, numbers)))


def _run(command: list[str | Path], folder: Path) -> str:
    """What the command prints. Its standard error is in the error where it fails."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
