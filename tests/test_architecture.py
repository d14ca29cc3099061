"""The rules of the tree that no linter knows: what may import what, and what no file may say."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"

# Ignored by git, so not of the project; for a tree without git.
NOT_OURS = re.compile(
    r"\.git|\.venv|\.uv|\.opensoul|\.hypothesis|\..*_cache|\.coverage.*"
    r"|build|dist|node_modules|__pycache__|.*\.egg-info"
)

# In parts, so that this file does not name them itself.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("anaconda", "org"),
        ("proxy", "golang", "org"),
        ("deb", "debian", "org"),
    )
]
NAMES_A_REGISTRY = re.compile("|".join(map(re.escape, REGISTRY_HOSTS)), re.IGNORECASE)

# A folder of one person's machine, at the start of a path.
OWN_FOLDERS = "|".join(["work", "root", r"home/[\w.-]+", r"Users/[\w.-]+"])
NAMES_A_MACHINE = re.compile(rf"(?<![\w.~)}}>*-])/(?:{OWN_FOLDERS})/")

# Each costs tens of milliseconds to import, and no command but the Gateway itself needs it.
HEAVY = {"aiohttp", "dependency_injector", "hypercorn", "pydantic", "quart", "uvloop"}


def our_files() -> list[Path]:
    """Every file of the project that is, or would be, committed."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        listed = subprocess.run(
            [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if listed.returncode == 0:
            paths = {ROOT / name for name in listed.stdout.split("\0") if name}
            return sorted(path for path in paths if path.is_file())
    return sorted(walk(ROOT))


def walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if NOT_OURS.fullmatch(path.name) or path.is_symlink():
            continue
        if path.is_dir():
            yield from walk(path)
        else:
            yield path


def our_texts() -> Iterator[tuple[str, str]]:
    """The path and the content of every text file of the project."""
    for path in our_files():
        content = path.read_bytes()
        if b"\0" not in content:
            yield path.relative_to(ROOT).as_posix(), content.decode("utf-8")


def lines_that_match(pattern: re.Pattern[str], text: str) -> list[int]:
    return [
        number for number, line in enumerate(text.splitlines(), start=1) if pattern.search(line)
    ]


@cache
def imports(source: str, *, package: str = "") -> frozenset[str]:
    """The full names of all that a module in `package` imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=module, names=names, level=level):
                parents = package.split(".")
                base = parents[: len(parents) - level + 1] if level else []
                origin = ".".join([*base, *([module] if module else [])])
                found |= {f"{origin}.{alias.name}" for alias in names}
            case _:
                pass
    return frozenset(found)


def exported(source: str) -> set[str]:
    """The names in a module's `__all__`."""
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=names)):
                return {str(name.value) for name in names if isinstance(name, ast.Constant)}
            case _:
                pass
    return set()


def modules(folder: Path) -> Iterator[tuple[str, frozenset[str]]]:
    """The path of every module in the folder, and what it imports."""
    for path in sorted(folder.rglob("*.py")):
        parents = path.parent.relative_to(SRC).parts if path.is_relative_to(SRC) else ()
        package = ".".join(("opensoul", *parents))
        name = path.relative_to(ROOT).as_posix()
        yield name, imports(path.read_text("utf-8"), package=package)


def is_plain(name: str) -> bool:
    """Whether the domain may import it: the standard library, or the domain itself."""
    return name.split(".")[0] in sys.stdlib_module_names or name.startswith("opensoul.domain.")


def test_the_domain_imports_the_standard_library_and_itself_only() -> None:
    foreign = {
        path: found
        for path, names in modules(SRC / "domain")
        if (found := {name for name in names if not is_plain(name)})
    }
    assert foreign == {}


def test_the_domain_names_no_header_of_the_family() -> None:
    # It names fields of its own, and a transport puts its headers in their place.
    header = re.compile(r"\bx-[a-z]+-")
    found = {
        path.relative_to(ROOT).as_posix(): lines
        for path in (SRC / "domain").rglob("*.py")
        if (lines := lines_that_match(header, path.read_text("utf-8")))
    }
    assert found == {}


def test_modules_of_the_package_import_one_another_relatively() -> None:
    # An absolute import is found through typings/ by an editor, which then shows no other use.
    absolute = []
    for path in sorted(SRC.rglob("*.py")):
        source = path.read_text("utf-8")
        names = imports(source) if "opensoul" in source else ()
        if any(name.split(".")[0] == "opensoul" for name in names):
            absolute.append(path.relative_to(ROOT).as_posix())
    assert absolute == []


def test_a_package_is_imported_through_its_public_face() -> None:
    faces = {
        ".".join(("opensoul", *path.parent.relative_to(SRC).parts)): names
        for path in SRC.rglob("__init__.py")
        if (names := exported(path.read_text("utf-8")))
    }
    around = []
    for path, found in modules(SRC):
        own = ".".join(("opensoul", *Path(path).parent.relative_to("src").parts))
        for name in found:
            module, _, symbol = name.rpartition(".")
            package = module.rpartition(".")[0]
            if symbol in faces.get(package, ()) and not f"{own}.".startswith(f"{package}."):
                around.append(f"{path}: {name}")
    assert around == []


def test_no_test_replaces_what_it_tests_by_a_mock() -> None:
    mocked = [
        path.relative_to(ROOT).as_posix()
        for folder in (SRC, ROOT / "tests")
        for path in sorted(folder.rglob("*.py"))
        if "mock" in (source := path.read_text("utf-8"))  # To parse all of them takes seconds.
        and any(f"{name}.".startswith("unittest.mock.") for name in imports(source))
    ]
    assert mocked == []


def test_no_file_names_the_host_of_a_package_registry() -> None:
    # Where packages come from is each user's own setting.
    found = {name: lines_that_match(NAMES_A_REGISTRY, text) for name, text in our_texts()}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    found = {name: lines_that_match(NAMES_A_MACHINE, text) for name, text in our_texts()}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    program = "import json, sys, opensoul.app.cli; print(json.dumps(list(sys.modules)))"
    fresh = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert fresh.returncode == 0, fresh.stderr
    assert HEAVY.intersection(json.loads(fresh.stdout)) == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import quart.typing", {"quart.typing"}),
        ("def f():\n    from pydantic import BaseModel", {"pydantic.BaseModel"}),
        ("from .runs import Run", {"opensoul.domain.runs.Run"}),
        ("from . import runs", {"opensoul.domain.runs"}),
        ("from ..adapters import stores", {"opensoul.adapters.stores"}),
        ("from unittest import mock", {"unittest.mock"}),
    ],
)
def test_an_import_is_noticed_in_each_of_its_forms(source: str, expected: set[str]) -> None:
    assert imports(source, package="opensoul.domain") == expected


@pytest.mark.parametrize("host", REGISTRY_HOSTS)
def test_a_registry_is_noticed(host: str) -> None:
    assert lines_that_match(NAMES_A_REGISTRY, f"first\nsee https://files.{host}/simple") == [2]


@pytest.mark.parametrize(
    ("parts", "noticed"),
    [
        (("", "home", "ada", "x"), True),
        (("file:", "", "", "work", "x"), True),
        (("", "Users", "ada", "x"), True),
        (("~", "work", "x"), False),
        (("example.com", "home", "ada", "x"), False),
        (("", "homeland", "ada", "x"), False),
    ],
)
def test_a_folder_of_a_machine_is_noticed(parts: tuple[str, ...], *, noticed: bool) -> None:
    assert bool(lines_that_match(NAMES_A_MACHINE, "/".join(parts))) is noticed


def test_a_tree_without_git_is_read_too(tmp_path: Path) -> None:
    for name in (
        "src/a.py",
        ".venv/b.py",
        "src/__pycache__/c.pyc",
        ".ci/run",
        "opensoul.egg-info/d",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert set(walk(tmp_path)) == {tmp_path / "src/a.py", tmp_path / ".ci/run"}
