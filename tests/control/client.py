"""A client of the control protocol that shows every frame and forgives nothing."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

PATIENCE = 20.0
ALL = [
    "operator.admin",
    "operator.read",
    "operator.write",
    "operator.approvals",
    "operator.pairing",
]


class Refused(Exception):
    """An answer with `ok: false`."""

    def __init__(self, frame: dict[str, Any]) -> None:
        super().__init__(frame["error"]["message"])
        self.error: dict[str, Any] = frame["error"]
        self.payload: Any = frame.get("payload")


@dataclass
class Peer:
    """One connection. Frames are sorted as they come: answers by id, events in a line."""

    socket: aiohttp.ClientWebSocketResponse
    events: deque[dict[str, Any]] = field(default_factory=deque)
    hello: dict[str, Any] = field(default_factory=dict)
    _answers: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)
    _sent: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _reader: asyncio.Task[None] | None = None
    _ended: tuple[int | None, str] = (None, "")

    def start(self) -> None:
        self._reader = asyncio.create_task(self._read())

    async def stop(self) -> None:
        await self.socket.close()
        if self._reader is not None:
            await self._reader

    async def _read(self) -> None:
        while True:
            message = await self.socket.receive()
            if message.type is aiohttp.WSMsgType.CLOSE:
                self._ended = (message.data, message.extra or "")
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            frame = json.loads(message.data)
            if frame["type"] == "res":
                self._answers.setdefault(frame["id"], deque()).append(frame)
            else:
                self.events.append(frame)
            self._news.set()
        self._news.set()

    async def until(self, found: Callable[[], Any]) -> Any:
        """What `found` finds, once it finds something."""
        async with asyncio.timeout(PATIENCE):
            while not (value := found()):
                if self._reader is not None and self._reader.done():
                    raise ConnectionError(f"closed: {self.socket.close_code}")
                self._news.clear()
                await self._news.wait()
        return value

    def send(self, method: str, params: Any = None, request_id: str | None = None) -> str:
        """Ask without waiting; the request's id."""
        self._sent += 1
        request_id = request_id or f"r{self._sent}"
        frame = {"type": "req", "id": request_id, "method": method}
        if params is not None:
            frame["params"] = params
        self._sending = asyncio.create_task(self.socket.send_str(json.dumps(frame)))
        return request_id

    async def sent(self) -> None:
        """Return when the whole frame of the last request is written."""
        await self._sending

    async def answer(self, request_id: str) -> Any:
        """The next answer under that id. Raises Refused."""
        waiting = self._answers.setdefault(request_id, deque())
        await self.until(lambda: waiting)
        frame = waiting.popleft()
        if not frame["ok"]:
            raise Refused(frame)
        return frame.get("payload")

    async def call(self, method: str, params: Any = None) -> Any:
        """Ask, and wait for the answer. Raises Refused."""
        return await self.answer(self.send(method, params))

    async def event(self, name: str, **having: Any) -> dict[str, Any]:
        """The next event of that name whose payload has these values; earlier ones are gone."""

        def matching() -> dict[str, Any] | None:
            while self.events:
                frame = self.events.popleft()
                payload = frame.get("payload") or {}
                if frame["event"] == name and all(
                    _at(payload, key) == value for key, value in having.items()
                ):
                    return frame
            return None

        found: dict[str, Any] = await self.until(matching)
        return found

    async def closed(self) -> tuple[int | None, str]:
        """How the Gateway ended the connection: the code and reason of its close frame."""
        assert self._reader is not None
        async with asyncio.timeout(PATIENCE):
            await self._reader
        return self._ended


def _at(payload: Any, path: str) -> Any:
    for key in path.split("__"):
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload


def connect_params(
    token: str | None, *, scopes: list[str] | None = None, protocol: int = 4, **changes: Any
) -> dict[str, Any]:
    params: dict[str, Any] = {
        "minProtocol": protocol,
        "maxProtocol": protocol,
        "client": {"id": "test", "version": "1", "platform": "linux", "mode": "test"},
        "role": "operator",
        "scopes": ALL if scopes is None else scopes,
    }
    if token is not None:
        params["auth"] = {"token": token}
    return params | changes


@asynccontextmanager
async def knocking(
    http: aiohttp.ClientSession, path: str = "/", **options: Any
) -> AsyncIterator[Peer]:
    """Connected, but not introduced."""
    async with http.ws_connect(path, max_msg_size=64 * 1024 * 1024, **options) as socket:
        peer = Peer(socket)
        peer.start()
        try:
            yield peer
        finally:
            await peer.stop()


@asynccontextmanager
async def connected(
    http: aiohttp.ClientSession,
    token: str | None,
    path: str = "/",
    *,
    headers: dict[str, str] | None = None,
    **changes: Any,
) -> AsyncIterator[Peer]:
    """Connected, and let in."""
    async with knocking(http, path, headers=headers) as peer:
        await peer.event("connect.challenge")
        peer.hello = await peer.call("connect", connect_params(token, **changes))
        yield peer
