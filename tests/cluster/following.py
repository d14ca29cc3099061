"""Followers that go on at another node behind the last event that they have."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from opensoul.client import (
    Aborted,
    CallFailed,
    Client,
    ClientError,
    Failed,
    Finished,
    HandshakeRefused,
    Resumed,
    TextDelta,
)
from opensoul.client.run_events import read_run_event
from tests.app.serving import SECRET
from tests.cluster.nodes import SCOPES

Event = tuple[int, str, str]
"""The number of an event, its kind and what it says, the same over both protocols."""
ENDINGS = ("finished", "failed", "aborted")
NETWORK = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)
HEADERS = {"Authorization": f"Bearer {SECRET}"}
_PAUSE = 0.1
"""Seconds before another attempt, which may come to a node that is not there either."""


class Wrong(Exception):
    """An answer that must not occur."""


@dataclass
class Turn:
    """One request, and the events of its run as a follower was sent them."""

    name: str
    session: str
    message: str
    answer: str
    run_id: str = ""
    events: list[Event] = field(default_factory=list)
    resumptions: int = 0
    """How often the follower has come back."""

    @property
    def last(self) -> int:
        return self.events[-1][0] if self.events else 0

    @property
    def ending(self) -> Event | None:
        return self.events[-1] if self.events and self.events[-1][1] in ENDINGS else None

    @property
    def text(self) -> str:
        """Without what another attempt has replaced: these runs have no steps."""
        texts: list[str] = []
        for _, kind, said in self.events:
            if kind == "resumed" and said != "0":
                texts.clear()
            elif kind == "text":
                texts.append(said)
        return "".join(texts)


def event_of(payload: Mapping[str, Any]) -> Event:
    """An `agent` event of the control protocol."""
    seq = int(payload["seq"])
    match read_run_event(payload):
        case TextDelta(text=text):
            return seq, "text", text
        case Resumed(void=void):
            return seq, "resumed", str(void)
        case Finished():
            return seq, "finished", ""
        case Failed(message=message):
            return seq, "failed", message
        case Aborted(reason=reason):
            return seq, "aborted", reason
        case _:
            return seq, "other", ""


def event_of_sse(fields: Mapping[str, Any]) -> Event:
    """An event of `/v1/runs/ID/events`."""
    seq, kind = int(fields["seq"]), str(fields["type"])
    match kind:
        case "text_delta":
            return seq, "text", str(fields["delta"])
        case "resumed":
            return seq, "resumed", str(fields["void"])
        case "finished":
            return seq, "finished", ""
        case "failed" | "aborted":
            return seq, kind, str(fields["error"]["message"])
        case _:
            return seq, "other", ""


async def sse_events(
    http: aiohttp.ClientSession, url: str, run_id: str, after: int
) -> AsyncIterator[Event]:
    """The events behind number `after` over one connection. Raises Wrong, and errors of the
    network and StopAsyncIteration where the connection ends before the run."""
    headers = {**HEADERS, "Last-Event-ID": f"{run_id}:{after}"} if after else HEADERS
    async with http.get(f"{url}/v1/runs/{run_id}/events", headers=headers) as response:
        if response.status == 503:
            raise aiohttp.ClientError(await response.text())
        if response.status != 200:
            raise Wrong(f"the events of {run_id}: {response.status} {await response.text()}")
        async for line in response.content:
            if line.startswith(b"data: "):
                fields = json.loads(line[6:])
                if "seq" not in fields:  # The Gateway cannot go on with this answer.
                    raise aiohttp.ClientError(str(fields))
                yield event_of_sse(fields)


@dataclass
class Talker:
    """The client of one session. It knows the addresses of gateways, and chooses one at random for
    each connection. `over`: "http" or "websocket"."""

    over: str
    urls: Callable[[], Sequence[str]]
    turns: Sequence[Turn]
    http: aiohttp.ClientSession
    chance: random.Random
    unserved: list[Exception] = field(default_factory=list)
    """Why steps were taken again."""

    async def live(self) -> None:
        """Submit all turns in their order without waiting for answers, and follow each to its end.
        Raises Wrong."""
        async with asyncio.TaskGroup() as followers:
            for turn in self.turns:
                if self.over == "http":
                    await self._again(self._post, turn)
                    followers.create_task(self._again(self._follow_http, turn))
                else:
                    await self._again(self._call, turn)
                    followers.create_task(self._again(self._follow_websocket, turn))

    async def _again(self, step: Callable[[Turn, str], Any], turn: Turn) -> None:
        """Take the step at random nodes until it succeeds."""
        while True:
            try:
                await step(turn, self.chance.choice(self.urls()))
            except (ClientError, *NETWORK) as error:
                if isinstance(error, CallFailed) and error.code != "UNAVAILABLE":
                    raise Wrong(f"{turn.name}: {error.code} {error}") from None
                if isinstance(error, HandshakeRefused) and not error.retryable:
                    raise Wrong(f"{turn.name}: {error}") from None
                self.unserved.append(error)
            else:
                return
            await asyncio.sleep(_PAUSE)

    async def _post(self, turn: Turn, url: str) -> None:
        body = {"model": "opensoul", "input": turn.message, "background": True}
        headers = {
            **HEADERS,
            "Idempotency-Key": turn.name,
            "x-opensoul-session-key": turn.session,
        }
        async with self.http.post(f"{url}/v1/responses", json=body, headers=headers) as response:
            said = await response.text()
            if response.status == 503:
                raise aiohttp.ClientError(said)
            if response.status != 200:
                raise Wrong(f"{turn.name}: {response.status} {said}")
            turn.run_id = response.headers["x-opensoul-run-id"]

    async def _call(self, turn: Turn, url: str) -> None:
        params = {
            "message": turn.message,
            "sessionKey": turn.session,
            "idempotencyKey": turn.name,
        }
        async with _client(url) as client:
            turn.run_id = (await client.call("agent", params))["runId"]

    async def _follow_http(self, turn: Turn, url: str) -> None:
        turn.resumptions += bool(turn.events)
        async for event in sse_events(self.http, url, turn.run_id, turn.last):
            turn.events.append(event)
        if turn.ending is None:
            raise aiohttp.ClientError("the connection has ended")

    async def _follow_websocket(self, turn: Turn, url: str) -> None:
        turn.resumptions += bool(turn.events)
        async with _client(url) as client:
            with client.events("agent") as events:
                await client.call("runs.follow", {"runId": turn.run_id, "afterSeq": turn.last})
                while turn.ending is None:
                    payload = (await anext(events)).payload
                    if payload["runId"] == turn.run_id and "seq" in payload:
                        turn.events.append(event_of(payload))
                    elif payload["runId"] == turn.run_id:
                        raise ConnectionError(str(payload))


def _client(url: str) -> Client:
    address = url.replace("http", "ws", 1)
    return Client.connect(address, token=SECRET, scopes=SCOPES, reconnect=False)
