"""A Gateway with a model that does whatever any text says, whoever wrote it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dependency_injector import providers

from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import ToolContext
from opensoul.domain.tools import ToolOutput, ToolResult, ToolSpec
from tests.app.serving import SECRET, Served, config, serving
from tests.app.serving import provider as configured
from tests.approvals.office import installed
from tests.fakes import anthropic, openai
from tests.fakes.behaviours import Exchange, answer
from tests.fakes.provider import FakeProvider
from tests.mcp.servers import PROJECT

ORDER = "CALL "
"""Begins a line that the model obeys; the rest is the JSON of a call."""
FORMATS = ("openai", "anthropic")


def order(name: str, arguments: object) -> str:
    """A line that makes the model call a tool."""
    return ORDER + json.dumps({"name": name, "arguments": arguments})


async def gullible(exchange: Exchange) -> None:
    """Make each call that a text since the model's last answer orders; without an order, repeat the
    last text as the answer. Refuse what strict providers refuse."""
    request = exchange.request
    texts = _last_texts(request.json["messages"])
    orders = [
        json.loads(line.removeprefix(ORDER))
        for text in texts
        for line in text.split("\n")
        if line.startswith(ORDER)
    ]
    if request.path.endswith("/messages"):
        blocks = [
            anthropic.call(f"c{number}", one["name"], one["arguments"])
            for number, one in enumerate(orders)
        ]
        said = blocks or [anthropic.text(texts[-1] or "Done.")]
        await anthropic.strict(anthropic.message(*said))(exchange)
        return
    calls = [
        {
            "index": number,
            "id": f"c{number}",
            "type": "function",
            "function": {"name": one["name"], "arguments": json.dumps(one["arguments"])},
        }
        for number, one in enumerate(orders)
    ]
    behaviour = answer(tool_calls=calls, finish_reason="tool_calls") if calls else answer(texts[-1])
    await openai.strict(behaviour)(exchange)


def _last_texts(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts behind the last message of the assistant."""
    texts: list[str] = []
    for message in messages:
        if message["role"] == "assistant":
            texts.clear()
        elif isinstance(message["content"], str):
            texts.append(message["content"])
        else:
            texts += [text for block in message["content"] for text in _texts(block)]
    return texts


def _texts(block: Mapping[str, Any]) -> list[str]:
    if block["type"] == "tool_result":
        return [part["text"] for part in block["content"]]
    return [block["text"]] if block["type"] == "text" else []


@dataclass
class Outside:
    """A Toolbox: `page` gives a text from outside; `send` waits for approval; `wipe` is not
    allowed."""

    page: str = ""
    sent: list[str] = field(default_factory=list)
    wiped: int = 0

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return (
            ToolSpec("page", "A page."),
            ToolSpec("send", "Sends something.", ask=True),
            ToolSpec("wipe", "Deletes everything."),
        )

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        match call.name:
            case "page":
                yield ToolResult(self.page)
            case "send":
                self.sent.append(call.arguments)
                yield ToolResult("sent")
            case _:
                self.wiped += 1
                yield ToolResult("wiped")

    async def close(self) -> None:
        """There is nothing to release."""


@dataclass
class World:
    served: Served
    provider: FakeProvider
    outside: Outside

    async def said(self, text: str, *, api: str = "openai", session: str = "s") -> str:
        """The answer of the agent on that format, in a session."""
        headers = {"x-opensoul-session-key": f"agent:{api}:{session}"}
        question = [{"role": "user", "content": text}]
        return await self.served.text(headers, model=f"opensoul:{api}", messages=question)

    async def undecided(self) -> list[str]:
        """The codes of the approvals that wait."""
        book = self.served.container.approval_book()
        return [approval.code for approval in await book.pending()]

    def results(self) -> list[str]:
        """The results of tools in the last request to the model, since the last question."""
        found: list[str] = []
        for message in self.provider.requests[-1].json["messages"]:
            content = message["content"]
            if message["role"] == "tool":
                found.append(content)
            elif message["role"] == "user" and isinstance(content, str):
                found.clear()
            elif message["role"] == "user":
                if any(block["type"] == "text" for block in content):
                    found.clear()
                for block in content:
                    found += _texts(block) if block["type"] == "tool_result" else []
        return found

    def said_by_users(self) -> list[str]:
        """The texts of users in the last request to the model."""
        found: list[str] = []
        for message in self.provider.requests[-1].json["messages"]:
            if message["role"] == "user":
                content = message["content"]
                blocks = [content] if isinstance(content, str) else content
                found += [
                    block if isinstance(block, str) else block["text"]
                    for block in blocks
                    if isinstance(block, str) or block["type"] == "text"
                ]
        return found


@asynccontextmanager
async def world(
    home: Path, *allowed: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[World]:
    """A Gateway whose agents have `page` and `send`, and what is `allowed` besides. `environment`:
    further variables of the Gateway."""
    env = {"PATH": os.environ["PATH"], "OPENSOUL_STATE_DIR": str(home / "state")}
    env |= environment or {}
    outside = Outside()
    async with FakeProvider(gullible) as provider:
        claude = configured(provider.base_url, api="anthropic-messages", apiKey="sk-ant")
        whole = config(
            provider.base_url,
            agents={
                "list": [
                    {"id": "openai", "model": {"primary": "fake/m"}},
                    {"id": "anthropic", "model": {"primary": "claude/m"}},
                ]
            },
            models={"providers": {"fake": configured(provider.base_url), "claude": claude}},
            tools={"allow": ["page", "send", *allowed]},
            mcp={
                "servers": {
                    "fake": {
                        "command": sys.executable,
                        "args": ["-m", "tests.fakes.mcp_server", str(home)],
                        "cwd": str(PROJECT),
                    }
                }
            },
        )
        parts = {"find_plugins": installed(courier=outside), "env": providers.Object(env)}
        async with serving(home, whole, **parts) as served:
            yield World(served, provider, outside)


__all__ = ["FORMATS", "SECRET", "World", "order", "world"]
