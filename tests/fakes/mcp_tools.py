"""The tools of the server of `tests.fakes.mcp_server`."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp_types import CallToolResult, TextContent, Tool, ToolAnnotations
from pydantic import Field

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)


ODD = {"type": "object", "properties": {"a": {"type": "nothing"}}}


class _BrokenServer(MCPServer):
    """Has a tool that works, and tools that do not."""

    async def list_tools(self) -> list[Tool]:
        tools = await super().list_tools()
        return [
            tools[0],
            Tool(name=" ", input_schema={"type": "object"}),
            Tool(name="odd", input_schema=ODD),
        ]


def server(folder: Path, *, breaks: bool = False) -> MCPServer:
    kind = _BrokenServer if breaks else MCPServer
    made = kind("fake", version="1.2")
    read = ToolAnnotations(read_only_hint=True)

    def note(text: str) -> None:
        with (folder / "calls").open("a") as file:
            file.write(f"{text}\n")

    @made.tool(annotations=read)
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        note("add")
        return str(a + b)

    @made.tool(annotations=ToolAnnotations(idempotent_hint=True))
    def store(value: str) -> CallToolResult:
        """Store a value."""
        return CallToolResult(content=[TextContent(text=f"stored {value}")])

    @made.tool()
    def person() -> dict[str, Any]:
        """Structured content."""
        return {"name": "Ada"}

    @made.tool()
    def only_structured() -> CallToolResult:
        """Structured content without a text."""
        return CallToolResult(content=[], structured_content={"name": "Ada"})

    @made.tool()
    def picture() -> Image:
        """An image."""
        return Image(data=PIXEL, format="png")

    @made.tool()
    def fail() -> CallToolResult:
        """An error."""
        return CallToolResult(content=[TextContent(text="out of paper")], is_error=True)

    @made.tool()
    def big(size: int) -> str:
        """A long text."""
        return "x" * size

    @made.tool()
    async def hang(ctx: Context) -> str:
        """Never answer."""
        note("hang begun")
        await ctx.report_progress(1, 3, "working")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note("hang cancelled")
            raise
        return "never"

    @made.tool()
    async def count(ctx: Context) -> str:
        """Report progress."""
        for done in (1, 2):
            await ctx.report_progress(done, 2)
        return "counted"

    @made.tool()
    def wordy(word: Annotated[str, Field(description="x" * 70_000)]) -> str:
        """Parameters that fit into no prompt."""
        return word

    @made.tool()
    def die() -> str:
        """End the process in the middle of the call."""
        note("die")
        os._exit(3)

    @made.tool()
    def environment() -> str:
        """The names and values of all variables."""
        return "\n".join(f"{name}={value}" for name, value in sorted(os.environ.items()))

    @made.tool()
    def where() -> str:
        """The working directory."""
        return os.getcwd()

    @made.tool()
    def look(path: str) -> str:
        """The text of a file, or why there is none."""
        try:
            return Path(path).read_text()
        except OSError as error:
            return os.strerror(error.errno or 0)

    @made.tool()
    def fork() -> str:
        """Leave a process behind; its id."""
        return str(subprocess.Popen(["sleep", "300"]).pid)

    @made.tool()
    async def grow(ctx: Context) -> str:
        """Add a tool."""
        made.add_tool(add, name="grown", description="Came later.")
        await ctx.notify_tools_changed()  # To subscribers, of the newest revision.
        await ctx.session.send_tool_list_changed()  # To clients of older revisions.
        return "grown"

    return made
