"""`read`, `write`, `edit` and `list`: the files of the workspace."""

from __future__ import annotations

import heapq
import os
import stat
from dataclasses import dataclass
from io import BufferedReader
from threading import Lock

from pydantic import Field

from ....domain.text import escape_line
from ....domain.tools import Effect, Repeat
from .tool import Parameters, Tool, ToolFailed, in_thread
from .workspace import Workspace, for_the_model, opened_file, replace_file, require_regular

MOST_LINES = 2_000
MOST_BYTES = 64 * 1024
"""Of the text that one `read` gives."""
MOST_SKIPPED = 64 * 1024 * 1024
"""Bytes before the first line that a `read` gives."""
LARGEST_FILE = 8 * 1024 * 1024
"""Bytes of a file that `write` writes and `edit` changes."""
MOST_ENTRIES = 500
_CHUNK = 64 * 1024


class Read(Parameters):
    path: str = Field(description="The file, relative to the workspace.")
    offset: int = Field(default=1, ge=1, description="The first line, counted from 1.")
    limit: int = Field(default=MOST_LINES, ge=1, le=MOST_LINES, description="How many lines.")


class Write(Parameters):
    path: str = Field(description="The file, relative to the workspace.")
    content: str = Field(description="The whole content.")


class Edit(Parameters):
    path: str = Field(description="The file, relative to the workspace.")
    old_text: str = Field(
        min_length=1, description="The text to replace, exactly as in the file, where it is once."
    )
    new_text: str = Field(description="The text in its place.")


class List(Parameters):
    path: str = Field(default=".", description="The folder, relative to the workspace.")


def read(arguments: Read, root: str) -> str:
    with (
        for_the_model(arguments.path),
        Workspace(root).file(arguments.path) as opened,
        open(opened, "rb", closefd=False) as file,
    ):
        if b"\0" in file.read(8_192):
            size = os.fstat(opened).st_size
            raise ToolFailed(f"{arguments.path} is not a text file ({size} bytes).")
        file.seek(0)
        if not _skip_lines(file, arguments.offset - 1):
            raise ToolFailed(f"{arguments.path} has fewer than {arguments.offset} lines.")
        lines: list[bytes] = []
        room = MOST_BYTES
        while len(lines) < arguments.limit and (line := file.readline(room + 1)):
            if len(line) > room and not lines:
                return f"{_decoded(line[:room])}\n[the line goes on: it is cut off here]"
            if len(line) > room:
                break
            lines.append(line)
            room -= len(line)
        else:
            line = file.read(1)
    text = _decoded(b"".join(lines))
    if line:
        text += f"[more lines follow: go on with offset {arguments.offset + len(lines)}]"
    return text or "[the file is empty]"


@dataclass(frozen=True, slots=True)
class Writer:
    """`write` and `edit`. Files are replaced one at a time, so that two edits of a file at the same
    time do not undo one another."""

    lock: Lock

    def write(self, arguments: Write, workspace: str) -> str:
        data = _encoded(arguments.content)
        with (
            for_the_model(arguments.path),
            Workspace(workspace).located(arguments.path, make=True) as place,
        ):
            mode = None
            try:
                found = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
            except FileNotFoundError:
                done = "Created"
            else:
                require_regular(found)
                mode, done = stat.S_IMODE(found.st_mode), "Replaced"
            with self.lock:
                replace_file(place, data, mode=mode)
        return f"{done} {arguments.path} ({len(data)} bytes)."

    def edit(self, arguments: Edit, workspace: str) -> str:
        path = arguments.path
        with (
            for_the_model(path),
            Workspace(workspace).located(path) as place,
            opened_file(place) as opened,
        ):
            found = os.fstat(opened)
            with open(opened, "rb", closefd=False) as file:
                content = file.read(LARGEST_FILE + 1)
            if len(content) > LARGEST_FILE:
                raise ToolFailed(f"{path} is longer than {LARGEST_FILE} bytes.")
            changed = _edited(content, _encoded(arguments.old_text), _encoded(arguments.new_text))
            with self.lock:
                replace_file(place, changed, mode=stat.S_IMODE(found.st_mode), was=found)
        return f"Edited {path}."


def list_(arguments: List, workspace: str) -> str:
    with for_the_model(arguments.path):
        directory = Workspace(workspace).open_directory(arguments.path)
        try:
            with os.scandir(directory) as entries:
                names = heapq.nsmallest(MOST_ENTRIES + 1, map(_entry, entries))
        finally:
            os.close(directory)
    if not names:
        return "[the folder is empty]"
    if len(names) > MOST_ENTRIES:
        names[-1] = f"[more than {MOST_ENTRIES} entries: the first ones by name]"
    return "\n".join(names)


def file_tools(
    lock: Lock, skills: str = ""
) -> list[Tool[Read] | Tool[Write] | Tool[Edit] | Tool[List]]:
    def read_file(arguments: Read, workspace: str) -> str:
        is_shared = bool(skills) and arguments.path.startswith(f"{skills}/")
        return read(arguments, skills if is_shared else workspace)

    writer = Writer(lock)
    reads, writes = frozenset({Effect.READ}), frozenset({Effect.READ, Effect.WRITE})
    return [
        Tool(
            "read",
            f"Read a text file of the workspace: at most {MOST_LINES} lines or"
            f" {MOST_BYTES // 1024} kB, from the line `offset` on.",
            Read,
            in_thread(read_file),
            reads,
            Repeat.SAFE,
        ),
        Tool(
            "write",
            "Write a text file of the workspace, in place of the one that is there. Missing folders"
            " are made.",
            Write,
            in_thread(writer.write),
            writes,
        ),
        Tool(
            "edit",
            "Replace a text in a file of the workspace. The old text has to be in the file exactly"
            " once, with the same white space.",
            Edit,
            in_thread(writer.edit),
            writes,
        ),
        Tool(
            "list",
            "List a folder of the workspace. Folders end with '/', links with '@'.",
            List,
            in_thread(list_),
            reads,
            Repeat.SAFE,
        ),
    ]


def _edited(content: bytes, old: bytes, new: bytes) -> bytes:
    if old not in content and b"\r\n" in content and b"\r\n" not in old:
        # The model writes line feeds, also for a file of Windows.
        old, new = old.replace(b"\n", b"\r\n"), new.replace(b"\n", b"\r\n")
    count = content.count(old)
    if count != 1:
        raise ToolFailed(
            "oldText is not in the file. Read it again: white space has to be the same."
            if not count
            else f"oldText is in the file {count} times. Add lines around it until it is unique."
        )
    changed = content.replace(old, new)
    if changed == content:
        raise ToolFailed("oldText and newText are the same: nothing was changed.")
    if len(changed) > LARGEST_FILE:
        raise ToolFailed(f"The file would be longer than {LARGEST_FILE} bytes.")
    return changed


def _skip_lines(file: BufferedReader, count: int) -> bool:
    """Move behind that many lines. False where the file ends before."""
    position = 0
    while count:
        chunk = file.read(_CHUNK)
        if not chunk:
            return False
        found = chunk.count(b"\n")
        if found >= count:
            end = -1
            for _ in range(count):
                end = chunk.index(b"\n", end + 1)
            file.seek(position + end + 1)
            return bool(file.peek(1))
        count -= found
        position += len(chunk)
        if position > MOST_SKIPPED:
            raise ToolFailed(f"The offset is more than {MOST_SKIPPED} bytes into the file.")
    return True


def _entry(entry: os.DirEntry[str]) -> str:
    sign = "@" if entry.is_symlink() else "/" if entry.is_dir(follow_symlinks=False) else ""
    return escape_line(entry.name) + sign


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _encoded(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise ToolFailed("The text contains a lone surrogate, which UTF-8 cannot encode.") from None
    if len(data) > LARGEST_FILE:
        raise ToolFailed(f"The text is longer than {LARGEST_FILE} bytes.")
    return data
