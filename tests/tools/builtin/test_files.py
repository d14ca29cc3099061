"""`read`, `write`, `edit` and `list` in the workspace of an agent."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from opensoul.adapters.tools.builtin.files import LARGEST_FILE, MOST_BYTES, MOST_LINES
from opensoul.domain.messages import ToolCall
from opensoul.domain.tools import Effect, Repeat, ToolResult
from tests.tools.builtin.calls import Caller, caller


@pytest.fixture
def files(tmp_path: Path) -> Caller:
    caller_ = caller(tmp_path)
    caller_.workspace.mkdir()
    return caller_


async def test_a_file_is_written_with_its_folders_and_read(files: Caller) -> None:
    assert await files.text("write", path="a/b/c.txt", content="grüß\n") == (
        "Created a/b/c.txt (7 bytes)."
    )
    assert await files.text("read", path="a/b/c.txt") == "grüß\n"


async def test_a_workspace_is_made_with_the_first_call_that_needs_it(tmp_path: Path) -> None:
    files = caller(tmp_path)
    await files.toolbox.tools(files.context)
    assert not files.workspace.exists()

    assert await files.text("list") == "[the folder is empty]"
    assert files.workspace.stat().st_mode & 0o777 == 0o700


async def test_an_agent_without_a_workspace_is_refused() -> None:
    assert "not an absolute path" in await caller(Path()).error("list")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "1\n2\n3\n4\n5"),
        ({"offset": 4}, "4\n5"),
        ({"offset": 2, "limit": 2}, "2\n3\n[more lines follow: go on with offset 4]"),
        ({"offset": 5, "limit": 1}, "5"),
    ],
)
async def test_lines_of_a_file(files: Caller, arguments: dict[str, int], expected: str) -> None:
    (files.workspace / "n.txt").write_text("1\n2\n3\n4\n5")

    assert await files.text("read", path="n.txt", **arguments) == expected


@pytest.mark.parametrize("content", ["1\n2\n", "", "1\n" * 70_000])
async def test_a_line_behind_the_end_is_an_error(files: Caller, content: str) -> None:
    (files.workspace / "n.txt").write_text(content)

    lines = content.count("\n")
    assert f"fewer than {lines + 2} lines" in await files.error(
        "read", path="n.txt", offset=lines + 2
    )


async def test_a_long_file_is_read_in_parts_without_a_gap(files: Caller) -> None:
    lines = [f"{number} {'x' * 70}\n" for number in range(3 * MOST_LINES)]
    (files.workspace / "long.txt").write_text("".join(lines))

    offset, parts = 1, []
    while True:
        text = await files.text("read", path="long.txt", offset=offset)
        assert len(text) <= MOST_BYTES + 100
        body, more, following = text.partition("[more lines follow: go on with offset ")
        parts.append(body)
        if not more:
            break
        offset = int(following.rstrip("]"))

    assert "".join(parts) == "".join(lines)


async def test_a_line_that_is_too_long_is_cut_off(files: Caller) -> None:
    (files.workspace / "line.txt").write_text("x" * (MOST_BYTES + 1))

    text = await files.text("read", path="line.txt")

    assert text == "x" * MOST_BYTES + "\n[the line goes on: it is cut off here]"


async def test_a_file_of_exactly_the_limit_is_whole(files: Caller) -> None:
    (files.workspace / "line.txt").write_text("x" * MOST_BYTES)

    assert await files.text("read", path="line.txt") == "x" * MOST_BYTES


async def test_an_empty_file_is_named_so(files: Caller) -> None:
    (files.workspace / "empty").touch()

    assert await files.text("read", path="empty") == "[the file is empty]"


async def test_what_is_no_text_is_not_read(files: Caller) -> None:
    (files.workspace / "picture.png").write_bytes(b"\x89PNG\0\0")

    assert await files.error("read", path="picture.png") == (
        "picture.png is not a text file (6 bytes)."
    )


async def test_other_encodings_are_read_with_replacements(files: Caller) -> None:
    (files.workspace / "latin.txt").write_bytes(b"caf\xe9\n")

    assert await files.text("read", path="latin.txt") == "caf\ufffd\n"


async def test_an_edit_replaces_a_text_and_keeps_the_permissions(files: Caller) -> None:
    path = files.workspace / "run.sh"
    path.write_text("echo one\necho two\n")
    path.chmod(0o750)

    await files.text("edit", path="run.sh", oldText="two", newText="three")

    assert path.read_text() == "echo one\necho three\n"
    assert path.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("gone", "x", "is not in the file"),
        ("a", "x", "3 times"),
        ("b", "b", "the same"),
        ("b", "x" * (LARGEST_FILE + 1), "longer than"),
        ("b", "x" * LARGEST_FILE, "would be longer than"),
    ],
)
async def test_an_edit_that_cannot_be_made_changes_nothing(
    files: Caller, old: str, new: str, problem: str
) -> None:
    (files.workspace / "f.txt").write_text("aaab")

    assert problem in await files.error("edit", path="f.txt", oldText=old, newText=new)
    assert (files.workspace / "f.txt").read_text() == "aaab"


async def test_an_edit_of_a_file_with_carriage_returns_keeps_them(files: Caller) -> None:
    (files.workspace / "dos.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")

    await files.text("edit", path="dos.txt", oldText="one\ntwo\n", newText="1\n2\n")

    assert (files.workspace / "dos.txt").read_bytes() == b"1\r\n2\r\nthree\r\n"


async def test_edits_at_the_same_time_do_not_undo_one_another(files: Caller) -> None:
    """One that loses the race is an error, so that the model tries again."""
    words = [f"word{number:02}" for number in range(20)]
    (files.workspace / "f.txt").write_text("\n".join(words))

    results = await asyncio.gather(
        *(files.result("edit", path="f.txt", oldText=word, newText="done") for word in words)
    )

    done = [not result.is_error for result in results]
    expected = ["done" if each else word for each, word in zip(done, words, strict=True)]
    assert any(done)
    assert (files.workspace / "f.txt").read_text().split("\n") == expected


async def test_a_folder_is_listed_by_name_with_the_kinds(files: Caller) -> None:
    (files.workspace / "src").mkdir()
    (files.workspace / "b.txt").touch()
    (files.workspace / "a.txt").touch()
    (files.workspace / "link").symlink_to("a.txt")
    (files.workspace / "two\nlines").touch()
    os.close(os.open(os.fsencode(files.workspace) + b"/\xff", os.O_CREAT | os.O_WRONLY))

    assert await files.text("list") == "\n".join(
        ["\\udcff", "a.txt", "b.txt", "link@", "src/", "two\\x0alines"]
    )


async def test_a_large_folder_is_cut_off(files: Caller) -> None:
    for number in range(600):
        (files.workspace / f"{number:03}").touch()

    lines = (await files.text("list")).splitlines()

    assert lines[:500] == [f"{number:03}" for number in range(500)]
    assert lines[500:] == ["[more than 500 entries: the first ones by name]"]


@pytest.mark.parametrize(
    ("tool", "arguments", "problem"),
    [
        ("read", {"path": "gone.txt"}, "gone.txt: no such file or directory."),
        ("read", {"path": "."}, "This is a directory"),
        ("read", {"path": "pipe"}, "not a regular file"),
        ("edit", {"path": "pipe", "oldText": "a", "newText": "b"}, "not a regular file"),
        ("write", {"path": "pipe", "content": ""}, "not a regular file"),
        ("write", {"path": "folder", "content": ""}, "This is a directory"),
        ("write", {"path": ".", "content": ""}, "This is a directory"),
        ("write", {"path": "f.txt/x", "content": ""}, "f.txt/x: not a directory."),
        ("write", {"path": "a/" * 65 + "x", "content": ""}, "more than 64 folders"),
        ("list", {"path": "f.txt"}, "f.txt: not a directory."),
        ("list", {"path": "loop"}, "too many levels of symbolic links"),
        ("read", {"path": "a\0b"}, "NUL"),
        ("read", {"path": "a" * 5_000}, "4096 characters"),
        ("read", {"path": "a" * 300}, "name too long"),
        ("read", {}, "path: Field required"),
        ("read", {"path": "f.txt", "offset": 0}, "offset: "),
        ("read", {"path": "f.txt", "lines": 3}, "lines: Extra inputs"),
        ("read", {"path": 3}, "path: "),
        ("write", {"path": "x", "content": "x" * (LARGEST_FILE + 1)}, "longer than"),
    ],
)
async def test_a_call_that_fails_is_an_answer_with_the_reason(
    files: Caller, tool: str, arguments: dict[str, object], problem: str
) -> None:
    os.mkfifo(files.workspace / "pipe")
    (files.workspace / "folder").mkdir()
    (files.workspace / "f.txt").touch()
    (files.workspace / "loop").symlink_to("loop")

    assert problem in await files.error(tool, **arguments)


@pytest.mark.parametrize("arguments", ["", "{", "[]", "null", '{"path": "\\ud800"}'])
async def test_arguments_that_are_no_object_are_an_error(files: Caller, arguments: str) -> None:
    call = ToolCall("c1", "read", arguments)
    (result,) = [output async for output in files.toolbox.run(files.context, call, key="k")]

    assert isinstance(result, ToolResult)
    assert result.is_error
    assert result.text.startswith("The arguments of 'read' are invalid: ")


async def test_a_tool_that_is_not_there_is_an_error(files: Caller) -> None:
    assert await files.error("format_disk") == "There is no tool 'format_disk'."


async def test_tools_are_described_by_their_types(files: Caller) -> None:
    specs = {spec.name: spec for spec in await files.toolbox.tools(files.context)}

    edit = specs["edit"].parameters
    assert edit["type"] == "object"
    assert edit["required"] == ["path", "oldText", "newText"]
    assert edit["additionalProperties"] is False
    assert "title" not in str(edit)
    reading = {name for name, spec in specs.items() if spec.repeat is Repeat.SAFE}
    assert reading >= {"read", "list"}
    assert reading.isdisjoint({"write", "edit"})
    assert all(Effect.WRITE not in spec.effects for name, spec in specs.items() if name in reading)
