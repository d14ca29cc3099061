"""A Gateway that is an MCP server, and clients of it: the `mcp` package, and plain HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.app.serving import SECRET, Served, config
from tests.fakes.provider import FakeProvider

HANDSHAKE, STATELESS = "legacy", "auto"
"""How the package's client begins: with a session, or without."""
ACCEPT = {"Accept": "application/json, text/event-stream"}
SESSION = "mcp-session-id"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
AGENTS: dict[str, Any] = {
    "defaults": {"model": {"primary": "fake/m"}},
    "list": [{"id": "main"}, {"id": "guide", "name": "The Guide"}, {"id": "cook"}],
}


def content(provider: FakeProvider, *, agents: Any = AGENTS, **chat: Any) -> dict[str, Any]:
    """A configuration with three agents; `chat` are settings of chat completions."""
    whole = config(provider.base_url, agents=agents)
    whole["gateway"]["http"]["endpoints"] = {
        "chatCompletions": {"enabled": True, **chat},
        "mcp": {"enabled": True},
    }
    return whole


@asynccontextmanager
async def connected(
    served: Served,
    mode: str = HANDSHAKE,
    *,
    secret: str = SECRET,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[Client]:
    sent = {"Authorization": f"Bearer {secret}"} | (headers or {})
    async with (
        httpx2.AsyncClient(headers=sent, timeout=30) as http,
        Client(
            streamable_http_client(f"{served.url}/mcp", http_client=http), mode=mode, **options
        ) as client,
    ):
        yield client


def text_of(result: Any) -> str:
    (part,) = result.content
    text: str = part.text
    return text


def call(name: str, arguments: Any, *, id_: int = 1, **params: Any) -> dict[str, Any]:
    """A message that calls a tool."""
    params = {"name": name, "arguments": arguments, **params}
    return {"jsonrpc": "2.0", "id": id_, "method": "tools/call", "params": params}


def post(
    served: Served,
    message: Any,
    session: str = "",
    *,
    secret: str = SECRET,
    headers: dict[str, str] | None = None,
) -> Any:
    """A message as an async context manager; bytes are sent as they are."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    sent = heads(session, secret) | {"Content-Type": "application/json"} | (headers or {})
    return served.client.post("/mcp", data=body, headers=sent)


def heads(session: str = "", secret: str = SECRET) -> dict[str, str]:
    own = {SESSION: session} if session else {}
    return {"Authorization": f"Bearer {secret}", **ACCEPT, **own}


async def opened(served: Served, *, secret: str = SECRET) -> str:
    """A new session's id."""
    async with post(served, INITIALIZE, secret=secret) as response:
        assert response.status == 200
        await response.read()
        session: str = response.headers[SESSION]
    async with post(served, INITIALIZED, session, secret=secret) as response:
        assert response.status == 202
    return session


async def event(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The next message of a stream; an empty one at its end."""
    async for line in response.content:
        if line.startswith(b"data: {"):
            message: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
            return message
    return {}
