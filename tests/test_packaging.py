"""What is installed is what is in the tree: packages, data files, the checkers' link, the pins."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"
REQUIREMENTS = ROOT / "requirements"

BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def project_settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def source_files() -> set[str]:
    """Every file under src/, by its path inside the package."""
    return {
        path.relative_to(SRC).as_posix()
        for path in SRC.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def pins(name: str) -> dict[str, set[str]]:
    """The releases that a requirements file pins, by package: several where markers differ."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for line in (REQUIREMENTS / name).read_text("utf-8").splitlines():
        if pin := re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line):
            found[canonicalize_name(pin[1])].add(pin[2])
    return dict(found)


def unpinned(wanted: list[str], pinned: dict[str, set[str]]) -> list[str]:
    """The requirements that no pin satisfies."""
    return [
        each
        for each in wanted
        if not any(
            Requirement(each).specifier.contains(release, prereleases=True)
            for release in pinned.get(canonicalize_name(Requirement(each).name), ())
        )
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all files in a wheel, built from a copy so that the tree stays clean."""
    project = tmp_path_factory.mktemp("wheel") / "project"
    shutil.copytree(SRC, project / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    built = subprocess.run(
        [sys.executable, "-c", BUILD, "dist"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    [path] = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_packages_listed_are_the_folders_with_an_init_file() -> None:
    folders = {path.parent.relative_to(SRC) for path in SRC.rglob("__init__.py")}
    found = [".".join(("opensoul", *folder.parts)) for folder in folders]
    assert sorted(project_settings()["tool"]["setuptools"]["packages"]) == sorted(found)


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in SRC.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_type_checkers_find_the_package_by_a_link_to_the_sources() -> None:
    link = ROOT / "typings" / "opensoul"
    assert link.is_symlink()
    assert link.readlink() == Path("../src")


def test_the_wheel_holds_every_source_file(wheel: set[str]) -> None:
    missing = {f"opensoul/{name}" for name in source_files()} - wheel
    assert missing == set()


def test_the_wheel_tells_type_checkers_that_it_is_typed(wheel: set[str]) -> None:
    assert "opensoul/py.typed" in wheel


def test_the_wheel_holds_the_data_of_the_configuration(wheel: set[str]) -> None:
    assert "opensoul/adapters/config/reference.md" in wheel
    assert "opensoul/adapters/config/schema/inert.toml" in wheel


def test_the_wheel_holds_nothing_beside_the_package(wheel: set[str]) -> None:
    roots = {name.split("/", 1)[0] for name in wheel}
    version = project_settings()["project"]["version"]
    assert roots == {"opensoul", f"opensoul-{version}.dist-info"}


def test_what_the_gateway_needs_is_pinned() -> None:
    project = project_settings()["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["local"]]
    assert unpinned(wanted, pins("run.txt")) == [], "run `make pins`"


def test_what_the_checks_need_is_pinned() -> None:
    assert unpinned(project_settings()["dependency-groups"]["dev"], pins("dev.txt")) == [], (
        "run `make pins`"
    )


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_what_builds_the_project_is_pinned(name: str) -> None:
    wanted = [*project_settings()["build-system"]["requires"], "pip", "wheel"]
    assert unpinned(wanted, pins(name)) == [], "run `make pins`"


def test_the_gateway_runs_on_the_releases_that_the_checks_saw() -> None:
    checked = pins("dev.txt")
    assert {name: found for name, found in pins("run.txt").items() if checked[name] != found} == {}


@pytest.mark.parametrize("name", ["run.txt", "dev.txt", "uv.txt"])
def test_every_pin_has_a_hash(name: str) -> None:
    blocks = re.split(r"^(?=\S+==)", (REQUIREMENTS / name).read_text("utf-8"), flags=re.MULTILINE)
    pinned = [block for block in blocks if "==" in block]
    assert pinned
    assert [block for block in pinned if "--hash=sha256:" not in block] == []
