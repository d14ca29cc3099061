"""A source of tools of your own: the model can look up a colleague's extension.

Name it in your package's metadata, and allow its tools in the configuration, such as with
`tools: { alsoAllow: ["look_up_extension"] }`:

    [project.entry-points."opensoul.tools"]
    phone_book = "phone_book_tools:PhoneBook"
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence

from opensoul.api import Effect, Repeat, ToolCall, ToolContext, ToolOutput, ToolResult, ToolSpec

EXTENSIONS = {"ada": "1815", "grace": "1906"}
NAME = {"type": "string", "description": "The first name, in lower case."}
LOOK_UP = ToolSpec(
    name="look_up_extension",
    description="The telephone extension of a colleague.",
    parameters={"type": "object", "properties": {"name": NAME}, "required": ["name"]},
    effects=frozenset({Effect.READ}),
    repeat=Repeat.SAFE,  # The call may be made again after a crash.
)


class PhoneBook:
    """Fits the port `Toolbox`; nothing is inherited, the shape is enough."""

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return (LOOK_UP,)

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        """The arguments fit the schema: other calls are answered without the tool."""
        name = json.loads(call.arguments)["name"]
        if name in EXTENSIONS:
            yield ToolResult(f"{name}: {EXTENSIONS[name]}")
        else:
            yield ToolResult("There is no colleague of this name.", is_error=True)

    async def close(self) -> None:
        """There is nothing to release."""
