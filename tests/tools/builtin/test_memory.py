"""`memory_search` and `memory_write`: the memory of an agent in Markdown files."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import sqlite3
import string
import sys
import threading
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opensoul.adapters.tools.builtin.memory import Memory, memory_tools
from opensoul.adapters.tools.builtin.memory_index import (
    LARGEST_FILE,
    MemoryIndex,
    Section,
    sections_of,
)
from opensoul.adapters.tools.builtin.tool import ToolFailed
from opensoul.domain.tools import Effect, Repeat
from tests.examples import examples
from tests.tools.builtin.calls import NOON, Caller, caller


@pytest.fixture
def memory(tmp_path: Path) -> Caller:
    caller_ = caller(tmp_path)
    (caller_.workspace / "memory").mkdir(parents=True)
    return caller_


def note(memory: Caller, path: str, text: str) -> None:
    """A file of the memory that somebody else has written."""
    file = memory.workspace / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


# Writing.


async def test_a_note_goes_to_the_file_of_the_day(tmp_path: Path) -> None:
    memory = caller(tmp_path)
    first = await memory.text("memory_write", text="Anna likes tea.\n")
    second = await memory.text("memory_write", text="# Bob\n\n- moved")

    assert first == "Added to memory/2026-03-04.md, line 1."
    assert second == "Added to memory/2026-03-04.md, line 3-5."
    file = memory.workspace / "memory/2026-03-04.md"
    assert file.read_text() == "Anna likes tea.\n\n# Bob\n\n- moved\n"


@pytest.mark.parametrize("path", ["MEMORY.md", "memory/people.md", "memory/2026/march.md"])
async def test_a_note_is_added_to_a_file(memory: Caller, path: str) -> None:
    note(memory, "MEMORY.md", "Before, without a line end")
    await memory.text("memory_write", text="After", file=path)
    await memory.text("memory_write", text="Later", file=path)

    before = "Before, without a line end\n\n" if path == "MEMORY.md" else ""
    assert (memory.workspace / path).read_text() == f"{before}After\n\nLater\n"
    assert await memory.text("memory_search", query="later")


@pytest.mark.parametrize(
    "path",
    [
        *("AGENTS.md", "notes.md", "Memory.md", "memory", "memory/", "memory/x.txt", "memory/.md"),
        *("memory/../AGENTS.md", "../memory/x.md", "memory//x.md", "memory/.x/y.md", "./MEMORY.md"),
        *("/etc/x.md", "memory/../../x.md", "memory\\x.md", "memory/x.md/", "~/MEMORY.md"),
    ],
)  # fmt: skip
async def test_only_the_memory_is_written(memory: Caller, path: str) -> None:
    error = await memory.error("memory_write", text="x", file=path)

    assert "is no file of the memory: use MEMORY.md or memory/NAME.md" in error
    assert [*memory.workspace.rglob("*")] == [memory.workspace / "memory"]


async def test_the_memory_does_not_lead_out_of_the_workspace(
    memory: Caller, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    secret = tmp_path / "outside" / "secret.md"
    secret.write_text("the secret")
    (memory.workspace / "memory" / "link.md").symlink_to(secret)
    (memory.workspace / "MEMORY.md").symlink_to(secret)
    (memory.workspace / "memory" / "folder").symlink_to(tmp_path / "outside")

    assert await memory.text("memory_search", query="secret") == "[nothing matches]"
    for path in ("memory/link.md", "MEMORY.md", "memory/folder/new.md"):
        assert "leads out of the workspace" in await memory.error(
            "memory_write", text="x", file=path
        )
    (memory.workspace / "memory").rename(tmp_path / "moved")
    (memory.workspace / "memory").symlink_to(tmp_path / "outside")
    assert "leads out" in await memory.error("memory_search", query="secret")
    assert [*(tmp_path / "outside").iterdir()] == [secret]
    assert secret.read_text() == "the secret"


@pytest.mark.parametrize("text", ["", " \n ", "\ud83d"])
async def test_what_is_no_text_is_refused(memory: Caller, text: str) -> None:
    await memory.error("memory_write", text=text)

    assert [*memory.workspace.rglob("*.md")] == []


async def test_a_file_that_would_not_be_searched_does_not_grow(memory: Caller) -> None:
    note(memory, "MEMORY.md", "x" * (LARGEST_FILE - 10))
    error = await memory.error("memory_write", text="0123456789", file="MEMORY.md")

    assert "Use another file" in error
    assert (memory.workspace / "MEMORY.md").stat().st_size == LARGEST_FILE - 10


async def test_notes_at_the_same_time_are_all_kept(memory: Caller) -> None:
    names = [f"note{number}" for number in range(16)]
    await asyncio.gather(*(memory.text("memory_write", text=name) for name in names))

    kept = (memory.workspace / "memory/2026-03-04.md").read_text().split()
    assert sorted(kept) == sorted(names)


# Searching.


async def test_what_matches_is_given_with_file_and_lines(memory: Caller) -> None:
    people, things = "# People\n\nAnna lives in Zürich.\nBob moved.", "# Things\n\nA bike, a bike."
    note(memory, "MEMORY.md", f"{people}\n\n{things}")
    note(memory, "memory/deep/a.md", "\n\nA bicycle, not a bike\n")

    assert await memory.text("memory_search", query="zurich") == (f"MEMORY.md:1-4\n{people}")
    assert await memory.text("memory_search", query="bike") == (
        f"MEMORY.md:6-8\n{things}\n\nmemory/deep/a.md:3\nA bicycle, not a bike"
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("LIVES", "a"),
        ("living", "a"),
        ("Anna bikes", "ab"),
        ("where does anna live?", "a"),
        ("bikes", "b"),
        ("C++", "c"),
        ("100%", "c"),
        ("snake_case", "c"),
        ("東京", "d"),
        ("nobody", ""),
        ("?!", ""),
        ("  ", ""),
    ],
)
async def test_words_are_found_in_their_forms(memory: Caller, query: str, expected: str) -> None:
    note(memory, "memory/a.md", "Anna lives here.")
    note(memory, "memory/b.md", "A bike.")
    note(memory, "memory/c.md", "C++ and snake_case, 100% of them")
    note(memory, "memory/d.md", "私は東京に住んでいます")
    found = await memory.text("memory_search", query=query)

    names = {line[7] for line in found.splitlines() if line.startswith("memory/")}
    assert names == set(expected)


async def test_better_matches_come_first_up_to_the_limit(memory: Caller) -> None:
    note(memory, "memory/one.md", "tea and a lot of other words that say nothing of it at all")
    note(memory, "memory/two.md", "green tea, black tea")
    found = await memory.text("memory_search", query="green tea", limit=1)

    assert found == "memory/two.md:1\ngreen tea, black tea"


@pytest.mark.parametrize("limit", [0, 51, "many"])
async def test_the_limit_has_limits(memory: Caller, limit: object) -> None:
    assert "limit" in await memory.error("memory_search", query="x", limit=limit)


async def test_other_files_are_not_searched(memory: Caller) -> None:
    for path in ("AGENTS.md", "memory/x.txt", "memory/.hidden.md", "memory/.git/x.md"):
        note(memory, path, "word")
    (memory.workspace / "memory" / "folder.md").mkdir()
    os.mkfifo(memory.workspace / "memory" / "pipe.md")
    os.close(os.open(bytes(memory.workspace) + b"/memory/\xff.md", os.O_CREAT))

    assert await memory.text("memory_search", query="word") == "[nothing matches]"


async def test_a_workspace_without_memory_has_no_matches(tmp_path: Path) -> None:
    assert await caller(tmp_path).text("memory_search", query="x") == "[nothing matches]"


async def test_changes_are_found_at_once(memory: Caller) -> None:
    async def found(query: str) -> bool:
        return await memory.text("memory_search", query=query) != "[nothing matches]"

    note(memory, "memory/a.md", "first")
    assert await found("first")
    note(memory, "memory/a.md", "other")  # Of the same size, perhaps at the same time.
    assert (await found("first"), await found("other")) == (False, True)
    os.utime(memory.workspace / "memory/a.md", (1, 1))
    assert await found("other")
    assert await memory.text("edit", path="memory/a.md", oldText="other", newText="third")
    assert (await found("other"), await found("third")) == (False, True)
    (memory.workspace / "memory/a.md").rename(memory.workspace / "MEMORY.md")
    assert "MEMORY.md:1" in await memory.text("memory_search", query="third")
    (memory.workspace / "MEMORY.md").unlink()
    assert not await found("third")


async def test_an_unchanged_file_is_not_read_again(memory: Caller, tmp_path: Path) -> None:
    note(memory, "memory/a.md", "word")
    os.utime(memory.workspace / "memory/a.md", (1, 1))
    await memory.text("memory_search", query="word")
    (path,) = (tmp_path / "memory-index").glob("*.sqlite3")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE texts SET text = 'of the index'")
    database.close()

    assert "of the index" in await memory.text("memory_search", query="index")


async def test_files_that_are_too_long_are_left_out(memory: Caller) -> None:
    note(memory, "MEMORY.md", "word " * (LARGEST_FILE // 5 + 1))
    note(memory, "memory/a.md", "word")

    assert await memory.text("memory_search", query="word") == (
        "memory/a.md:1\nword\n\n[files that are too long or too many are left out: 1]"
    )


async def test_two_workspaces_do_not_share_a_memory(memory: Caller, tmp_path: Path) -> None:
    other = Caller(tmp_path / "other", memory.toolbox)
    note(memory, "MEMORY.md", "mine")

    assert await other.text("memory_search", query="mine") == "[nothing matches]"


@pytest.mark.parametrize(
    "query",
    [
        *('"', '""', "-x", "NEAR(", "NEAR(a b, 3)", "col:x", "text:word", "a AND", "OR", "NOT x"),
        *("*", "wor*", "^word", "(", ")", "a + b", "{text}: x", "'; DROP TABLE files; --"),
        *("%", "_", "\0", "word\0", "\\", "\u202e", "a" * 1_000, "x " * 500),
    ],
)  # fmt: skip
async def test_no_query_is_an_error(memory: Caller, query: str) -> None:
    note(memory, "MEMORY.md", "a word")

    assert await memory.text("memory_search", query=query)
    assert await memory.text("memory_search", query="word") == "MEMORY.md:1\na word"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(50))
@given(st.text(min_size=1, max_size=40) | st.text(string.punctuation, min_size=1, max_size=20))
def test_no_text_breaks_a_query(tmp_path: Path, query: str) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir(exist_ok=True)
    (workspace / "MEMORY.md").write_text("a word")

    MemoryIndex(tmp_path / "index").search(str(workspace), query, 5)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "a page", "another version", "tables"])
async def test_a_damaged_index_is_made_anew(memory: Caller, tmp_path: Path, damage: str) -> None:
    for number in range(20):
        note(memory, f"memory/{number}.md", f"word number{number}\n" * 200)
    expected = await memory.text("memory_search", query="number7")
    (path,) = (tmp_path / "memory-index").glob("*.sqlite3")
    data = path.read_bytes()
    match damage:
        case "garbage":
            path.write_bytes(b"garbage" * 1_000)
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "a page":
            path.write_bytes(data[:4_096] + b"\xff" * 20_000 + data[24_096:])
        case "another version":
            with sqlite3.connect(path) as database:
                database.execute("PRAGMA user_version = 99")
            database.close()
        case "tables":
            with sqlite3.connect(path) as database:
                database.execute("DROP TABLE sections")
            database.close()

    assert await memory.text("memory_search", query="number7") == expected


async def test_the_index_is_private_and_not_in_the_workspace(
    memory: Caller, tmp_path: Path
) -> None:
    note(memory, "MEMORY.md", "word")
    await memory.text("memory_search", query="word")

    folder = tmp_path / "memory-index"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert sorted(memory.workspace.iterdir()) == [
        memory.workspace / "MEMORY.md",
        memory.workspace / "memory",
    ]


async def test_an_index_that_cannot_be_kept_is_an_answer(memory: Caller, tmp_path: Path) -> None:
    (tmp_path / "memory-index").write_text("a file in its place")

    assert "memory: " in await memory.error("memory_search", query="word")


async def test_a_search_that_waits_for_another_process_is_stopped_with_its_run(
    memory: Caller, tmp_path: Path
) -> None:
    await memory.text("memory_search", query="word")
    (lock,) = (tmp_path / "memory-index").glob("*.lock")
    loop, waits = asyncio.get_running_loop(), asyncio.Event()

    def monotonic() -> float:
        loop.call_soon_threadsafe(waits.set)
        return 0.0

    index = MemoryIndex(tmp_path / "memory-index", monotonic)
    search, _ = memory_tools(Memory(index, threading.Lock(), lambda: NOON))
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        call = asyncio.ensure_future(anext(search.call('{"query": "word"}', memory.context.agent)))
        await waits.wait()
        call.cancel()
        await asyncio.wait([call])

    assert call.cancelled()


def test_searches_at_the_same_time_wait_for_one_another(memory: Caller, tmp_path: Path) -> None:
    """Each has an index of its own, as in another process: a lock file is between them."""
    for number in range(50):
        note(memory, f"memory/{number}.md", f"word number{number}")
    found: list[int] = []

    def search() -> None:
        index = MemoryIndex(tmp_path / "another-index")
        found.append(len(index.search(str(memory.workspace), "word", 50).sections))

    threads = [threading.Thread(target=search) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [50] * 8


def test_an_index_that_takes_long_is_completed_by_later_searches(
    memory: Caller, tmp_path: Path
) -> None:
    for number in range(3):
        note(memory, f"memory/{number}.md", f"word number{number}")
        os.utime(memory.workspace / f"memory/{number}.md", (1, 1))
    # Time passes with each look at it: one file is indexed within the limit.
    ticks = itertools.count(0, 11)
    slow = MemoryIndex(tmp_path / "index", monotonic=lambda: float(next(ticks)))
    for _ in range(2):
        with pytest.raises(ToolFailed, match="Search again"):
            slow.search(str(memory.workspace), "number2", 5)

    found = MemoryIndex(tmp_path / "index").search(str(memory.workspace), "number2", 5)
    assert found.sections == (Section("memory/2.md", 1, 1, "word number2"),)


_SEARCHING = """
import sys
from pathlib import Path
from opensoul.adapters.tools.builtin.memory_index import MemoryIndex
index = MemoryIndex(Path(sys.argv[1]))
while True:
    print(len(index.search(sys.argv[2], "word", 50).sections), flush=True)
"""


async def test_a_search_in_another_process_may_be_killed(memory: Caller, tmp_path: Path) -> None:
    def change(text: str) -> None:
        for number in range(50):
            note(memory, f"memory/{number}.md", f"word {text}")

    change("first")
    index = tmp_path / "memory-index"
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SEARCHING, str(index), str(memory.workspace)), stdout=PIPE
    )
    assert other.stdout is not None
    try:
        for round_ in range(5):
            # It may see files that are being written at the moment, one after the other.
            assert 40 <= int(await other.stdout.readline()) <= 50
            change(f"round{round_}")
            found = await memory.text("memory_search", query=f"round{round_}", limit=50)
            assert found.count(f"round{round_}") == 50
    finally:
        other.kill()
        await other.wait()
    change("last")
    assert (await memory.text("memory_search", query="last", limit=50)).count("last") == 50


# Sections.


@given(
    st.lists(st.sampled_from(["", "  ", "# A", "a line", "x" * 300, "- y" * 400]), max_size=40).map(
        "\n".join
    )
)
def test_sections_have_every_line_once(text: str) -> None:
    lines = text.splitlines()
    covered: list[int] = []
    for section in sections_of("a.md", text):
        assert section.text == "\n".join(lines[section.first - 1 : section.last])
        covered += range(section.first, section.last + 1)

    assert covered == sorted(set(covered))
    assert {number for number, line in enumerate(lines, 1) if line.strip()} <= set(covered)


def test_a_long_line_is_several_sections() -> None:
    found = list(sections_of("a.md", "first\n" + "x" * 2_500))

    assert [(one.first, one.last, len(one.text)) for one in found] == [
        (1, 1, 5),
        (2, 2, 1_200),
        (2, 2, 1_200),
        (2, 2, 100),
    ]
    assert found[0] == Section("a.md", 1, 1, "first")


# What the tools are.


async def test_their_schemas_and_effects(memory: Caller) -> None:
    specs = {spec.name: spec for spec in await memory.toolbox.tools(memory.context)}
    search, write = specs["memory_search"], specs["memory_write"]

    assert (set(search.effects), search.repeat) == ({Effect.READ}, Repeat.SAFE)
    assert (set(write.effects), write.repeat) == ({Effect.READ, Effect.WRITE}, Repeat.UNSAFE)
    assert search.parameters["required"] == ["query"]
    assert write.parameters["required"] == ["text"]
    assert search.parameters["additionalProperties"] is False
