"""`search`: what matches, and searches that would take too long."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from opensoul.adapters.tools.builtin import search
from opensoul.adapters.tools.builtin.search_child import matcher
from tests.tools.builtin.calls import Caller, caller

FILES = {
    "a.py": "import os\nprint('café')\n",
    "src/b.py": "import sys\n",
    "src/deep/c.md": "import nothing\n",
    ".git/config": "import hidden\n",
    "node_modules/x.js": "import hidden\n",
}


@pytest.fixture
def files(tmp_path: Path) -> Caller:
    caller_ = caller(tmp_path)
    for name, content in FILES.items():
        path = caller_.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return caller_


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ["a.py:1: import os", "src/b.py:1: import sys", "src/deep/c.md:1: import nothing"]),
        ({"path": "src"}, ["src/b.py:1: import sys", "src/deep/c.md:1: import nothing"]),
        ({"path": "./src/deep/"}, ["src/deep/c.md:1: import nothing"]),
        ({"path": "a.py"}, ["a.py:1: import os"]),
        ({"path": ".git"}, [".git/config:1: import hidden"]),
        ({"glob": "*.py"}, ["a.py:1: import os", "src/b.py:1: import sys"]),
        ({"glob": "src/**/*.md"}, ["src/deep/c.md:1: import nothing"]),
        ({"glob": "*.txt"}, ["[nothing matches]"]),
    ],
)
async def test_matching_lines_are_given_with_file_and_number(
    files: Caller, arguments: dict[str, str], expected: list[str]
) -> None:
    text = await files.text("search", pattern="^import", **arguments)

    assert text.splitlines() == expected


async def test_what_is_no_text_is_left_out(files: Caller) -> None:
    (files.workspace / "picture").write_bytes(b"import\0")
    (files.workspace / "latin").write_bytes(b"import caf\xe9\x1b[2J\n")
    os.mkfifo(files.workspace / "pipe")

    text = await files.text("search", pattern="import caf|import$")

    assert text == "latin:1: import caf\ufffd\\x1b[2J"


async def test_many_matches_and_long_lines_are_cut_off(files: Caller) -> None:
    (files.workspace / "many").write_text(f"{'x' * 1_000}\n" * 1_000)

    lines = (await files.text("search", pattern="xx")).splitlines()

    assert lines[0] == f"many:1: {'x' * search.LONGEST_LINE}..."
    assert len(lines) == search.MOST_MATCHES + 1
    assert lines[-1] == "[more than 200 lines match: narrow the search]"


async def test_a_file_that_is_too_large_is_left_out_and_counted(files: Caller) -> None:
    with (files.workspace / "large").open("wb") as file:
        file.truncate(search.LARGEST_FILE + 1)

    text = await files.text("search", pattern="import os")

    assert text == "a.py:1: import os\n[files above 16777216 bytes are left out: 1]"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"pattern": "("}, "invalid: missing ), unterminated subpattern"),
        ({"pattern": "a{99999999999}"}, "invalid: "),
        ({"pattern": "a", "glob": "[z-a]"}, "invalid: bad character range"),
        ({"pattern": ""}, "pattern: "),
        ({"pattern": "a", "path": "gone"}, "gone: no such file or directory."),
    ],
)
async def test_a_search_that_cannot_be_made_is_an_error(
    files: Caller, arguments: dict[str, str], problem: str
) -> None:
    assert problem in await files.error("search", **arguments)


@pytest.mark.both_loops
async def test_a_pattern_that_takes_for_ever_is_ended_and_holds_up_nobody(
    files: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SECONDS", 0.5)
    (files.workspace / "evil").write_text("a" * 40 + "!")

    slow = asyncio.ensure_future(files.error("search", pattern="^(a+)+$"))
    assert await files.text("read", path="evil") == "a" * 40 + "!"
    assert not slow.done()

    assert "ended after 0.5 seconds" in await slow


@pytest.mark.both_loops
async def test_a_search_that_is_aborted_ends_its_process(files: Caller) -> None:
    (files.workspace / "evil").write_text("a" * 40 + "!")
    before = set(children())
    call = asyncio.ensure_future(files.text("search", pattern="^(a+)+$"))
    await until(lambda: set(children()) - before)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    # A process that has not begun yet ends by itself, without its request.
    await until(lambda: set(children()) <= before)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - there is no event for processes
            await asyncio.sleep(0.01)


def children() -> list[str]:
    """The processes that this one has started, by id."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return text.split()


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("", "any/thing", True),
        ("*.py", "a/b/c.py", True),
        ("*.py", "a.pyc", False),
        ("a/*.py", "a/b.py", True),
        ("a/*.py", "a/b/c.py", False),
        ("a/**/*.py", "a/c.py", True),
        ("a/**/*.py", "a/b/b/c.py", True),
        ("**/c.py", "c.py", True),
        ("**/c.py", "a/c.py", True),
        ("[ab].txt", "b.txt", True),
        ("[!ab].txt", "b.txt", False),
        ("[!ab].txt", "c.txt", True),
        ("?.txt", "cc.txt", False),
        ("a[.txt", "a[.txt", True),
        ("a+(b).txt", "a+(b).txt", True),
        ("*", "new\nline", True),
    ],
)
def test_globs(glob: str, path: str, expected: bool) -> None:
    assert bool(matcher(glob)(path)) is expected
