"""`search`: the lines of the workspace's files that match a regular expression."""

from __future__ import annotations

import errno
import os

from pydantic import Field

from ....domain.agents import Agent
from ....domain.text import escape_line
from ....domain.tools import Effect, Repeat, ToolResult
from .helper import run_helper
from .tool import Outputs, Parameters, Tool, ToolFailed, finished
from .workspace import Workspace, for_the_model

MOST_MATCHES = 200
LONGEST_LINE = 300
LARGEST_FILE = 16 * 1024 * 1024
SECONDS = 20.0


class Search(Parameters):
    pattern: str = Field(
        min_length=1, description="A regular expression of Python, matched with each line."
    )
    path: str = Field(default=".", description="A folder or a file, relative to the workspace.")
    glob: str = Field(
        default="", description="Only files of such names, for example '*.py' or 'src/**/*.md'."
    )


async def search(arguments: Search, agent: Agent) -> Outputs:
    opened: list[tuple[str, int]] = []
    try:
        await finished(lambda: opened.append(_opened(agent.workspace, arguments.path)))
        (kind, descriptor) = opened[0]
        request = {
            kind: descriptor,
            "prefix": arguments.path.removeprefix("./").rstrip("/"),
            "pattern": arguments.pattern,
            "glob": arguments.glob,
            "most": MOST_MATCHES,
            "longest": LONGEST_LINE,
            "largest": LARGEST_FILE,
        }
        answer = await run_helper(
            "search_child.py", request, seconds=SECONDS, descriptors=[descriptor]
        )
    except TimeoutError:
        raise ToolFailed(
            f"The search was ended after {SECONDS:g} seconds. Search fewer files, by path or glob,"
            " or for a simpler pattern."
        ) from None
    finally:
        for _, descriptor in opened:
            os.close(descriptor)
    if "invalid" in answer:
        raise ToolFailed(f"The pattern or the glob is invalid: {answer['invalid']}.")
    lines = [escape_line(line) for line in answer["lines"]] or ["[nothing matches]"]
    if answer["more"]:
        lines.append(f"[more than {MOST_MATCHES} lines match: narrow the search]")
    if answer["skipped"]:
        lines.append(f"[files above {LARGEST_FILE} bytes are left out: {answer['skipped']}]")
    yield ToolResult("\n".join(lines))


def search_tool() -> Tool[Search]:
    return Tool(
        "search",
        "Search the text files of the workspace for a regular expression. Gives the matching lines"
        f" with file and number, at most {MOST_MATCHES}. Links are not followed, and folders such"
        " as .git and node_modules are left out.",
        Search,
        search,
        frozenset({Effect.READ}),
        Repeat.SAFE,
    )


def _opened(workspace: str, path: str) -> tuple[str, int]:
    """A descriptor of the folder or the file."""
    place = Workspace(workspace)
    with for_the_model(path):
        try:
            return "directory", place.open_directory(path)
        except OSError as error:
            if error.errno != errno.ENOTDIR:
                raise
        with place.file(path) as file:
            return "file", os.dup(file)
