"""`memory_search` and `memory_write`: notes of an agent, in Markdown files of its workspace."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Lock

from pydantic import Field

from ....domain.agents import Agent
from ....domain.ports import Clock
from ....domain.text import escape_line
from ....domain.tools import Effect, Repeat, ToolResult
from .memory_index import LARGEST_FILE, MemoryIndex
from .tool import Outputs, Parameters, Tool, ToolFailed, finished, in_thread
from .workspace import Place, Workspace, for_the_model, opened_file, replace_file

MOST_RESULTS = 50


class MemorySearch(Parameters):
    query: str = Field(
        min_length=1, max_length=1_000, description="Words to look for; any of them is enough."
    )
    limit: int = Field(default=10, ge=1, le=MOST_RESULTS, description="How many sections.")


class MemoryWrite(Parameters):
    text: str = Field(min_length=1, description="What to remember, as Markdown.")
    file: str = Field(
        default="", description="MEMORY.md, or memory/NAME.md; by default the file of today."
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """The two tools. `lock`: held while a file is replaced. `clock` is Unix time."""

    index: MemoryIndex
    lock: Lock
    clock: Clock

    async def search(self, arguments: MemorySearch, agent: Agent) -> Outputs:
        stop = Event()
        yield ToolResult(
            await finished(
                lambda: self._found(arguments, agent.workspace, stop), on_cancel=stop.set
            )
        )

    def _found(self, arguments: MemorySearch, workspace: str, stop: Event) -> str:
        with for_the_model("memory"):
            found = self.index.search(workspace, arguments.query, arguments.limit, stop)
        parts = [
            f"{escape_line(one.path)}:{_lines(one.first, one.last)}\n{one.text}"
            for one in found.sections
        ]
        if not parts:
            parts.append("[nothing matches]")
        if found.left_out:
            parts.append(f"[files that are too long or too many are left out: {found.left_out}]")
        return "\n\n".join(parts)

    def write(self, arguments: MemoryWrite, workspace: str) -> str:
        path = arguments.file or f"memory/{self._today()}.md"
        _check(path)
        text = arguments.text.strip("\n")
        if not text.strip():
            raise ToolFailed("There is no text to remember.")
        with (
            for_the_model(path),
            Workspace(workspace).located(path, make=True) as place,
            self.lock,
        ):
            first = _append(place, path, text)
        return f"Added to {path}, line {_lines(first, first + text.count(chr(10)))}."

    def _today(self) -> str:
        """The date where the Gateway runs."""
        return datetime.fromtimestamp(self.clock()).astimezone().date().isoformat()


def memory_tools(memory: Memory) -> list[Tool[MemorySearch] | Tool[MemoryWrite]]:
    return [
        Tool(
            "memory_search",
            "Search your memory: MEMORY.md and the files of memory/ in the workspace. Gives the"
            " sections that contain any of the words, the best first, with file and lines.",
            MemorySearch,
            memory.search,
            frozenset({Effect.READ}),
            Repeat.SAFE,
        ),
        Tool(
            "memory_write",
            "Add a text to your memory, at the end of a file. Use MEMORY.md for what is always"
            " worth knowing, and the file of today, the default, for what has happened.",
            MemoryWrite,
            in_thread(memory.write),
            frozenset({Effect.READ, Effect.WRITE}),
        ),
    ]


def _check(path: str) -> None:
    """Raises ToolFailed for a path that `memory_search` would not find."""
    folder, *names = path.split("/")
    hidden = any(not name or name.startswith(".") for name in names)
    in_folder = folder == "memory" and names and not hidden and path.endswith(".md")
    if path not in ("MEMORY.md", "memory.md") and not in_folder:
        raise ToolFailed(f"{path!r} is no file of the memory: use MEMORY.md or memory/NAME.md.")


def _append(place: Place, path: str, text: str) -> int:
    """Replace the file by one with the text at its end; the line where the text begins."""
    was, mode, content = None, None, b""
    try:
        with opened_file(place) as opened:
            was = os.fstat(opened)
            mode = stat.S_IMODE(was.st_mode)
            with open(opened, "rb", closefd=False) as file:
                content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        pass  # It is made.
    if content:
        content = content.rstrip(b"\n") + b"\n\n"
    data = content + text.encode() + b"\n"
    if len(data) > LARGEST_FILE:
        raise ToolFailed(
            f"{path} would be longer than {LARGEST_FILE} bytes, the most that is searched. Use"
            " another file."
        )
    replace_file(place, data, mode=mode, was=was)
    return content.count(b"\n") + 1


def _lines(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
