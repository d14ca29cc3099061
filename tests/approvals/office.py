"""A Gateway whose agents have a tool that waits for approval, and its clients."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from dependency_injector import providers

from examples.header_authenticator import PEOPLE, HeaderAuthenticator
from opensoul.app import plugins
from opensoul.domain.access import ALL_SCOPES, Scope
from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import ToolContext
from opensoul.domain.tools import ToolOutput, ToolResult, ToolSpec
from tests.app.serving import SECRET, Served, config, serving
from tests.control.client import Peer, connected
from tests.fakes.behaviours import Behaviour, answer
from tests.fakes.provider import FakeProvider

ARGUMENTS = {"to": "ada", "what": "a letter"}
SEND = ToolSpec("send", "Sends something.", ask=True)
PICKY = frozenset({Scope.READ, Scope.WRITE})


@dataclass
class Courier:
    """A Toolbox with one tool, each call of which waits for approval."""

    sent: list[Any] = field(default_factory=list)
    result: str = "sent"

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return (SEND,)

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        self.sent.append(json.loads(call.arguments))
        yield ToolResult(self.result)

    async def close(self) -> None:
        """There is nothing to release."""


class _Made(EntryPoint):
    """An entry point of this process."""

    def load(self) -> Any:
        return lambda: _MADE[self.name]


_MADE: dict[str, Any] = {}


def installed(**parts: Any) -> providers.Provider[Any]:
    """The plugins of that name, as if they were installed."""
    _MADE.update(parts)
    groups = {"courier": plugins.TOOLS, "proxy": plugins.AUTHENTICATORS}
    points = {groups[name]: _Made(name, name, groups[name]) for name in parts}
    return providers.Object(lambda group: [points[group]] if group in points else [])


def calls(*arguments: Mapping[str, Any] | str) -> Behaviour:
    """The model calls the tool, once with each of `arguments`; a text is sent as it is."""
    items = [
        {
            "index": index,
            "id": f"c{index}",
            "type": "function",
            "function": {
                "name": "send",
                "arguments": one if isinstance(one, str) else json.dumps(one),
            },
        }
        for index, one in enumerate(arguments or (ARGUMENTS,))
    ]
    return answer("I send it. ", tool_calls=items, finish_reason="tool_calls")


@dataclass
class Said:
    """An answer: its text, or the code of the error in its place."""

    status: int
    run_id: str
    text: str = ""
    stop: str = ""
    error: str = ""

    @property
    def code(self) -> str:
        """Of the approval that the answer asks for."""
        found = re.findall(r"^approve ([A-Z0-9-]{8,})$", self.text, re.MULTILINE)
        assert len(found) < 2
        return found[0] if found else ""


def _whole(status: int, run_id: str, body: Any) -> Said:
    if status != 200:
        return Said(status, run_id, error=body["error"]["code"])
    (choice,) = body["choices"]
    return Said(status, run_id, choice["message"]["content"], choice["finish_reason"])


def _streamed(run_id: str, body: str) -> Said:
    *frames, done = [line[6:] for line in body.split("\n") if line.startswith("data: ")]
    assert done == "[DONE]"
    chunks = [json.loads(frame) for frame in frames]
    choices = [chunk["choices"][0] for chunk in chunks]
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    return Said(200, run_id, text, choices[-1]["finish_reason"])


@dataclass
class Office:
    served: Served
    provider: FakeProvider
    courier: Courier

    def connected(self, user: str = "", **changes: Any) -> AbstractAsyncContextManager[Peer]:
        """A connection of the operator, or of a person behind the proxy."""
        if not user:
            return connected(self.served.client, SECRET, **changes)
        return connected(self.served.client, None, headers=self.headers(user), **changes)

    def headers(self, user: str = "") -> dict[str, str]:
        if not user:
            return self.served.authorization
        return {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-User": user}

    async def waiting(self, peer: Peer, **params: Any) -> dict[str, Any]:
        """Start a run whose call waits; the approval as the peer gets it."""
        self.provider.will(calls(), answer("It is sent."))
        asked = {"agentId": "guide", "message": "Send it.", "idempotencyKey": "k1"}
        await peer.call("agent", asked | params)
        requested = await peer.event("exec.approval.requested")
        approval: dict[str, Any] = requested["payload"]
        return approval

    async def said(
        self, text: str, by: str = "", headers: Mapping[str, str] | None = None, **body: Any
    ) -> Said:
        """The answer to a message of the user in a chat completion."""
        asked = {"model": "opensoul:guide", "messages": [{"role": "user", "content": text}], **body}
        sent = self.headers(by) | dict(headers or {})
        url = "/v1/chat/completions"
        async with self.served.client.post(url, json=asked, headers=sent) as response:
            run_id = response.headers.get("x-opensoul-run-id", "")
            if asked.get("stream") and response.status == 200:
                return _streamed(run_id, (await response.read()).decode())
            return _whole(response.status, run_id, await response.json())

    async def asked(self, *arguments: Mapping[str, Any] | str, **options: Any) -> Said:
        """The answer of a run whose calls with `arguments` wait."""
        self.provider.will(calls(*arguments), answer("It is sent."))
        said = await self.said("Send it.", **options)
        assert said.code, said
        return said

    async def http(
        self, method: str, path: str = "", user: str = "", **body: Any
    ) -> tuple[int, Any]:
        """The status and the body of the answer of `/v1/approvals`."""
        sent: dict[str, Any] = {"json": body} if body else {}
        url = f"/v1/approvals{path}"
        headers = self.headers(user)
        async with self.served.client.request(method, url, headers=headers, **sent) as response:
            return response.status, await response.json()


@dataclass
class Clock:
    """Unix time, which a test can put forward."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@asynccontextmanager
async def open_office(
    home: Path,
    provider: FakeProvider,
    courier: Courier | None = None,
    *,
    sections: Mapping[str, Any] | None = None,
    **parts: Any,
) -> AsyncIterator[Office]:
    """A Gateway in `home`; `sections` are added to its configuration.

    Behind the proxy: ada, who may do everything; grace and alan, who may use the agent `guide` and
    decide on their own runs; and eve, who may decide on nothing.
    """
    courier = courier or Courier()
    decides = replace(PEOPLE["grace"], scopes=PICKY | {Scope.APPROVALS})
    people = HeaderAuthenticator(
        {
            "ada": replace(PEOPLE["ada"], scopes=ALL_SCOPES),
            "grace": decides,
            "alan": replace(decides, id="alan", principal="alan"),
            "eve": replace(decides, id="eve", principal="eve", scopes=PICKY),
        }
    )
    find = installed(courier=courier, proxy=people)
    agents = {
        "defaults": {"model": {"primary": "fake/m"}},
        "list": [{"id": "main"}, {"id": "guide"}],
    }
    added = {"agents": agents, "tools": {"allow": ["send"]}, **(sections or {})}
    whole = config(provider.base_url, **added)
    whole["gateway"]["auth"] = {"token": SECRET, "authenticators": ["proxy"]}
    whole["gateway"]["trustedProxies"] = ["127.0.0.1"]
    async with serving(home, whole, find_plugins=find, **parts) as served:
        yield Office(served, provider, courier)
