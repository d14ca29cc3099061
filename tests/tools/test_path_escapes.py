"""Attacks on the workspace: no tool reads, writes or names anything that lies outside of it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from opensoul.adapters.tools.builtin.tool import ToolFailed
from opensoul.adapters.tools.builtin.workspace import Workspace, opened_file, replace_file
from opensoul.domain.tools import ToolResult
from tests.tools.builtin.calls import Caller, caller

SECRET = "the secret outside"
COUNT = 200

# Ways to a place in the workspace, with the number of folders that they go down.
INTO = {"": 0, "sub": 1, "sub/deep": 2, "inside": 1, "sub/../sub": 1, "./sub//deep/.": 2, "back": 0}
# Ways out of it, from the workspace. `{ups}` is enough `..` for the depth.
OUT = [
    "{ups}..",
    "{ups}../outside/..",
    "{ups}../workspace/..",
    "{ups}../workspace-too/..",
    "{ups}out/..",
    "{ups}out_absolute/..",
    "{ups}chain/..",
    "{ups}sub/up",
    "{ups}sub/deep/up_up/..",
    "{ups}root{base}",
    "{ups}proc{base}",
    "{ups}../../../../../../../../../..{base}",
    "{ups}missing/../../",
    "{ups}notes.txt/../..",
]
ABSOLUTE = ["{base}", "/{base}", "{base}/workspace/..", "{base}/workspace/sub/../../.", "/..{base}"]
TARGETS = ["secret.txt", "outside/secret.txt", "workspace-too/secret.txt", "outside/new.txt"]
DECORATIONS = [("/", "//"), ("/", "/./"), ("..", "../."), ("", "")]


def prepare(base: Path) -> None:
    """A workspace with links out of it, between folders that are none of its business."""
    workspace = base / "workspace"
    (workspace / "sub" / "deep").mkdir(parents=True)
    (workspace / "notes.txt").write_text("inside")
    for folder in ("outside", "workspace-too"):
        (base / folder).mkdir()
        (base / folder / "secret.txt").write_text(SECRET)
    (base / "secret.txt").write_text(SECRET)
    for link, target in {
        "inside": "sub",
        "back": "sub/..",
        "out": "../outside",
        "out_absolute": str(base / "outside"),
        "chain": "inside/../out",
        "sub/up": "../..",
        "sub/deep/up_up": "../../../outside",
        "root": "/",
        "proc": "/proc/self/root",
        "secret": "../secret.txt",
        "secret_absolute": str(base / "secret.txt"),
    }.items():
        (workspace / link).symlink_to(target)


def generated() -> list[str]:
    """Paths that differ. `{base}` is the folder around the workspace."""
    chance = random.Random(12)  # noqa: S311 - the same paths in every run
    found = dict.fromkeys(["secret", "secret_absolute", "out/secret.txt", "chain/secret.txt"])
    while len(found) < COUNT:
        if chance.random() < 0.2:
            way = chance.choice(ABSOLUTE)
        else:
            into, depth = chance.choice(list(INTO.items()))
            out = chance.choice(OUT).replace("{ups}", "../" * depth)
            way = f"{into}/{out}" if into else out
        path = f"{way}/{chance.choice(TARGETS)}"
        old, new = chance.choice(DECORATIONS)
        if old:
            path = path.replace(old, new, 1) if chance.random() < 0.5 else path.replace(old, new)
        found[path] = None
    return list(found)


PATHS = generated()


def snapshot(base: Path) -> dict[str, str]:
    """All files around the workspace with their content."""
    return {
        str(path.relative_to(base)): path.read_text()
        for folder in (base, base / "outside", base / "workspace-too")
        for path in folder.iterdir()
        if path.is_file()
    }


def resolved(path: Path) -> Path:
    """Where the names lead, for one who joins them and follows links."""
    return Path(os.path.realpath(path))


@pytest.fixture
def attacker(tmp_path: Path) -> Caller:
    prepare(tmp_path)
    return caller(tmp_path)


def test_the_paths_are_different_ones() -> None:
    assert len(set(PATHS)) == COUNT


@pytest.mark.parametrize("template", PATHS)
async def test_no_path_leads_out_of_the_workspace(
    attacker: Caller, tmp_path: Path, template: str
) -> None:
    path = template.replace("{base}", str(tmp_path))
    workspace = tmp_path / "workspace"
    # Without the walk it would be an escape.
    assert not resolved(workspace / path).is_relative_to(workspace)
    folder = path.rpartition("/")[0] or path
    before = snapshot(tmp_path)

    results = [
        await attacker.error("read", path=path),
        await attacker.error("write", path=path, content="overwritten"),
        await attacker.error("edit", path=path, oldText=SECRET, newText="overwritten"),
        await attacker.error("list", path=folder),
        await attacker.error("search", pattern="secret", path=path),
        await attacker.error("search", pattern="secret", path=folder),
        await attacker.error("exec", command="cat secret.txt", workdir=folder),
        await attacker.error("memory_write", text="overwritten", file=path),
    ]

    assert not [text for text in results if SECRET in text]
    assert snapshot(tmp_path) == before


async def test_a_search_follows_no_link(attacker: Caller) -> None:
    assert await attacker.text("search", pattern="secret|inside") == "notes.txt:1: inside"


@pytest.mark.parametrize(
    "path", ["inside/deep/../../notes.txt", "back/notes.txt", "{base}/notes.txt"]
)
async def test_a_link_or_a_path_that_stays_inside_is_followed(attacker: Caller, path: str) -> None:
    path = path.replace("{base}", str(attacker.workspace))

    assert await attacker.text("read", path=path) == "inside"


async def test_a_workspace_behind_a_link_is_one(attacker: Caller, tmp_path: Path) -> None:
    """Absolute paths may be written by either name of it."""
    (tmp_path / "link").symlink_to("workspace")
    linked = Caller(tmp_path / "link", attacker.toolbox)

    for root in ("link", "workspace"):
        assert await linked.text("read", path=str(tmp_path / root / "notes.txt")) == "inside"
    assert "out of the workspace" in await linked.error("read", path=str(tmp_path / "secret.txt"))


async def test_writing_to_a_link_inside_changes_its_target(attacker: Caller) -> None:
    (attacker.workspace / "alias").symlink_to("sub/target.txt")

    await attacker.text("write", path="alias", content="new")

    assert (attacker.workspace / "alias").is_symlink()
    assert (attacker.workspace / "sub" / "target.txt").read_text() == "new"


def test_a_file_that_becomes_a_link_after_the_look_up_is_not_read(tmp_path: Path) -> None:
    prepare(tmp_path)
    notes = tmp_path / "workspace" / "notes.txt"
    with Workspace(str(tmp_path / "workspace")).located("notes.txt") as place:
        notes.unlink()
        notes.symlink_to("../secret.txt")
        with pytest.raises(OSError, match="symbolic links"), opened_file(place):
            pass


def test_a_file_that_becomes_a_link_after_the_look_up_is_not_written_through(
    tmp_path: Path,
) -> None:
    prepare(tmp_path)
    notes = tmp_path / "workspace" / "notes.txt"
    with Workspace(str(tmp_path / "workspace")).located("notes.txt") as place:
        notes.unlink()
        notes.symlink_to("../secret.txt")
        replace_file(place, b"new")
    assert (tmp_path / "secret.txt").read_text() == SECRET
    assert notes.read_text() == "new"
    assert not notes.is_symlink()


def test_a_folder_that_becomes_a_link_after_the_look_up_is_the_old_one(tmp_path: Path) -> None:
    prepare(tmp_path)
    workspace = tmp_path / "workspace"
    (workspace / "sub" / "secret.txt").write_text("inside")
    with Workspace(str(workspace)).located("sub/secret.txt") as place:
        (workspace / "sub").rename(workspace / "moved")
        (workspace / "sub").symlink_to("../outside")
        with opened_file(place) as file:
            assert os.read(file, 100) == b"inside"
        replace_file(place, b"new")
    assert (tmp_path / "outside" / "secret.txt").read_text() == SECRET
    assert (workspace / "moved" / "secret.txt").read_text() == "new"


def test_an_edited_file_that_becomes_another_one_is_not_replaced(tmp_path: Path) -> None:
    prepare(tmp_path)
    notes = tmp_path / "workspace" / "notes.txt"
    with Workspace(str(tmp_path / "workspace")).located("notes.txt") as place:
        was = notes.stat()
        notes.unlink()
        notes.symlink_to("../secret.txt")
        with pytest.raises(ToolFailed, match="changed"):
            replace_file(place, b"new", was=was)
    assert (tmp_path / "secret.txt").read_text() == SECRET
    assert not list((tmp_path / "workspace").glob(".*")), "nothing is left of the new file"


def _renameat2(one: bytes, other: bytes) -> None:
    """Exchange two names at once, as a program in C would."""
    here, exchange = -100, 2
    if ctypes.CDLL(None, use_errno=True).renameat2(here, one, here, other, exchange):
        raise OSError(ctypes.get_errno(), "the names were not exchanged")


@contextmanager
def swapping(workspace: Path) -> Iterator[list[int]]:
    """`door` is a folder and a link out of the workspace by turns, as fast as that goes."""
    (workspace / "door").mkdir(exist_ok=True)
    (workspace / "door" / "secret.txt").write_text("inside")
    (workspace / "link").symlink_to("../outside")
    stopped, swaps = threading.Event(), [0]
    exchange = partial(_renameat2, bytes(workspace / "door"), bytes(workspace / "link"))

    def swap() -> None:
        while not stopped.is_set():
            exchange()
            swaps[0] += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield swaps
    finally:
        stopped.set()
        thread.join()


RACES: dict[str, dict[str, object]] = {
    "read": {"path": "door/secret.txt"},
    "write": {"path": "door/secret.txt", "content": "inside"},
    "edit": {"path": "door/secret.txt", "oldText": "inside", "newText": "inside!"},
    "list": {"path": "door"},
}


@pytest.mark.parametrize("tool", RACES)
async def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(
    attacker: Caller, tmp_path: Path, tool: str
) -> None:
    (tmp_path / "outside" / "only-outside").write_text("")
    before = snapshot(tmp_path)
    with swapping(attacker.workspace) as swaps:
        results: list[ToolResult] = []
        while len(results) < 300 or swaps[0] < 300:
            results.append(await attacker.result(tool, **RACES[tool]))

    assert not [result for result in results if SECRET in result.text]
    assert not [result for result in results if "only-outside" in result.text]
    assert snapshot(tmp_path) == before


async def test_a_search_in_a_folder_that_is_swapped_for_a_link_leads_nowhere(
    attacker: Caller,
) -> None:
    with swapping(attacker.workspace):
        results = await asyncio.gather(
            *(attacker.result("search", pattern="secret") for _ in range(20))
        )

    assert not [result for result in results if SECRET in result.text]


async def test_a_workspace_that_is_the_root_of_the_system_has_no_outside(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("found")
    everywhere = Caller(Path("/"), caller(tmp_path).toolbox)

    assert await everywhere.text("read", path=str(tmp_path / "file")) == "found"


async def test_no_descriptor_is_left_open(attacker: Caller) -> None:
    async def calls() -> None:
        for template in PATHS[:40]:
            path = template.replace("{base}", str(attacker.workspace.parent))
            await attacker.result("read", path=path)
            await attacker.result("list", path=path)
            with suppress(AssertionError):
                await attacker.text("write", path=f"a/{path}", content="")

    await calls()
    before = len(os.listdir("/proc/self/fd"))
    await calls()
    assert len(os.listdir("/proc/self/fd")) == before
