"""A Gateway with tools that clients call without a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from examples.header_authenticator import PEOPLE, HeaderAuthenticator
from opensoul.domain.access import ALL_SCOPES, Scope
from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import ToolContext
from opensoul.domain.tools import Effect, ToolOutput, ToolResult, ToolSpec
from tests.app.serving import SECRET, Served, config, serving
from tests.approvals.office import installed
from tests.control.client import Peer, connected

_PARAMETERS = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "action": {"type": "string"}},
    "additionalProperties": False,
}
_READS = frozenset({Effect.READ})
READS = frozenset({Scope.READ})
SPECS = (
    ToolSpec("say", "Says the arguments.", _PARAMETERS, effects=_READS),
    ToolSpec("plain", "Has no action.", {"type": "object"}, effects=_READS),
    ToolSpec("fail", "Fails.", effects=_READS),
    ToolSpec("hang", "Never ends.", effects=_READS),
    ToolSpec("flood", "Says a lot.", effects=_READS),
    ToolSpec("careful", "Waits for an approval.", effects=_READS, ask=True),
    ToolSpec("write_it", "Writes."),
)


@dataclass
class Tools:
    """A Toolbox that remembers its calls. `stopped` is set when a call of `hang` is stopped."""

    calls: list[tuple[str, Any]] = field(default_factory=list)
    contexts: list[ToolContext] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return SPECS

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        self.calls.append((call.name, json.loads(call.arguments)))
        self.contexts.append(context)
        self.keys.append(key)
        yield ToolOutput("working")
        match call.name:
            case "fail":
                yield ToolResult("there is no such thing", is_error=True)
            case "flood":
                yield ToolResult("ab" * 50_000)
            case "hang":
                self.hanging.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self.stopped.set()
            case _:
                yield ToolResult(f"{call.name} {call.arguments}")

    async def close(self) -> None:
        """There is nothing to release."""


@dataclass
class Workshop:
    served: Served
    tools: Tools

    def headers(self, user: str = "") -> dict[str, str]:
        if not user:
            return self.served.authorization
        return {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-User": user}

    async def post(
        self, body: Any, user: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """The status and the body of the answer of `/tools/invoke`."""
        sent = self.headers(user) | dict(headers or {})
        async with self.served.client.post("/tools/invoke", json=body, headers=sent) as response:
            return response.status, await response.json()

    async def invoke(self, tool: str, user: str = "", **body: Any) -> tuple[int, Any]:
        return await self.post({"tool": tool, **body}, user)

    def connected(self, user: str = "", **changes: Any) -> AbstractAsyncContextManager[Peer]:
        if not user:
            return connected(self.served.client, SECRET, **changes)
        return connected(self.served.client, None, headers=self.headers(user), **changes)


@asynccontextmanager
async def open_workshop(
    home: Path,
    *allow: str,
    sections: Mapping[str, Any] | None = None,
    grace: int = 20,
    **parts: Any,
) -> AsyncIterator[Workshop]:
    """Clients may call `allow`. Behind the proxy: ada, who may do everything; eve, who may only
    read; and grace and alan, who may use the agent `guide`."""
    tools = Tools()
    guided = replace(PEOPLE["grace"], scopes=frozenset({Scope.READ, Scope.WRITE}))
    people = HeaderAuthenticator(
        {
            "ada": replace(PEOPLE["ada"], scopes=ALL_SCOPES),
            "eve": replace(PEOPLE["ada"], id="eve", principal="eve", scopes=READS),
            "grace": guided,
            "alan": replace(guided, id="alan", principal="alan"),
        }
    )
    agents = {
        "defaults": {"model": {"primary": "fake/m"}},
        "list": [{"id": "main", "default": True}, {"id": "guide"}, {"id": "bare"}],
    }
    whole = config(**{"agents": agents, "tools": {"allow": ["*"]}, **(sections or {})})
    whole["gateway"]["auth"] = {"token": SECRET, "authenticators": ["proxy"]}
    whole["gateway"]["trustedProxies"] = ["127.0.0.1"]
    whole["gateway"]["shutdown"] = {"graceSeconds": grace}
    whole["gateway"]["tools"] = {"invoke": {"allow": list(allow)}}
    find = installed(courier=tools, proxy=people)
    async with serving(home, whole, find_plugins=find, **parts) as served:
        yield Workshop(served, tools)
