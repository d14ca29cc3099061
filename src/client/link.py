"""One connection after the handshake: it matches responses to requests and delivers events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, Generic, TypeVar

import aiohttp

from .errors import CallFailed, ConnectionLost, TimedOut
from .frames import Answer, Event, read_frame, request_text
from .handshake import Hello

OnEvent = Callable[[Event], None]
OnGap = Callable[[int, int], None]
"""Called with the expected and the received sequence number; the events between are lost."""

_TICK_TIMEOUT = 4000
_FIRST_TICKS = 2


T = TypeVar("T")


class Inbox(Generic[T]):
    """What a request or a Run receives, until the connection ends."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[T | ConnectionLost] = asyncio.Queue()

    def put(self, item: T | ConnectionLost) -> None:
        self._queue.put_nowait(item)

    async def get(self) -> T:
        """Wait for the next item. Raises ConnectionLost."""
        item = await self._queue.get()
        if isinstance(item, ConnectionLost):
            raise item
        return item


class PendingCall(Inbox[Answer]):
    """A request that waits for its responses."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self._method = method

    async def next(self, timeout: float | None) -> Answer:  # noqa: ASYNC109 - part of the promise
        """Wait for the next response. Raises ConnectionLost, TimedOut."""
        try:
            async with asyncio.timeout(timeout):
                return await self.get()
        except TimeoutError:
            raise TimedOut(f"No response to {self._method} within {timeout:g} s.") from None


RunInbox = Inbox[Mapping[str, Any]]
"""The payloads of the `agent` events of one Run."""


class Link:
    """A live connection. `read` dispatches incoming messages until the connection ends.

    `silence`: seconds without a message after which the connection is considered dead (default:
    two ticks; the Gateway sends a tick event periodically).
    """

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        hello: Hello,
        *,
        on_event: OnEvent,
        on_gap: OnGap | None,
        silence: float | None = None,
    ) -> None:
        self.hello = hello
        self._socket = socket
        self._on_event = on_event
        self._on_gap = on_gap
        self._silence = _FIRST_TICKS * hello.tick if silence is None else silence
        self._ids = count(1)
        self._pending: dict[str, PendingCall] = {}
        self._inboxes: dict[str, list[RunInbox]] = {}
        self._seq = 0
        self._lost: ConnectionLost | None = None

    async def read(self) -> ConnectionLost:
        """Dispatch messages until the connection ends; returns the reason, for `end`."""
        while True:
            try:
                message = await self._socket.receive(timeout=self._silence)
            except TimeoutError:
                await self._socket.close(code=_TICK_TIMEOUT, message=b"tick timeout")
                return ConnectionLost(
                    f"The Gateway sent nothing for {self._silence:g} s.", code=_TICK_TIMEOUT
                )
            if message.type is aiohttp.WSMsgType.TEXT:
                self._take(read_frame(message.data))
            elif message.type is not aiohttp.WSMsgType.BINARY:
                return _lost(message, self._socket.close_code)

    async def end(self, lost: ConnectionLost) -> None:
        """Fail every pending call and inbox with `lost`, then close the socket."""
        self._lost = lost
        for pending in self._pending.values():
            pending.put(lost)
        for inbox in (inbox for inboxes in self._inboxes.values() for inbox in inboxes):
            inbox.put(lost)
        with suppress(ConnectionError, aiohttp.ClientError):
            await self._socket.close(code=1000)

    async def send(self, method: str, params: Mapping[str, Any] | None) -> PendingCall:
        """Send a request. Raises ConnectionLost, or CallFailed if the request is too large."""
        if self._lost is not None:
            raise self._lost
        request_id = str(next(self._ids))
        text = request_text(request_id, method, params)
        if 0 < self.hello.max_payload < len(text):
            raise CallFailed(
                "INVALID_REQUEST",
                f"The request {method} has {len(text)} bytes; the Gateway's limit is"
                f" {self.hello.max_payload}.",
            )
        pending = self._pending[request_id] = PendingCall(method)
        try:
            await self._socket.send_str(text)
        except (ConnectionError, aiohttp.ClientError):
            self._pending.pop(request_id, None)
            raise ConnectionLost(f"The connection ended before {method} was sent.") from None
        return pending

    def forget(self, pending: PendingCall) -> None:
        """Ignore further responses to the call."""
        for request_id in [key for key, value in self._pending.items() if value is pending]:
            del self._pending[request_id]

    @contextmanager
    def inbox(self, run_id: str) -> Iterator[RunInbox]:
        """The `agent` events of a Run, within the context."""
        if self._lost is not None:
            raise self._lost
        inbox = RunInbox()
        self._inboxes.setdefault(run_id, []).append(inbox)
        try:
            yield inbox
        finally:
            self._inboxes[run_id].remove(inbox)
            if not self._inboxes[run_id]:
                del self._inboxes[run_id]

    def _take(self, frame: Event | Answer | None) -> None:
        match frame:
            case Answer():
                pending = self._pending.get(frame.id)
                if pending is not None:
                    pending.put(frame)
                    if not frame.accepted:
                        del self._pending[frame.id]
            case Event():
                self._check_seq(frame.seq)
                self._deliver(frame)
            case None:
                pass  # Ignore unknown frames (forward compatibility).

    def _deliver(self, event: Event) -> None:
        if event.name == "agent" and isinstance(event.payload, dict):
            for inbox in self._inboxes.get(str(event.payload.get("runId")), ()):
                inbox.put(event.payload)
        self._on_event(event)

    def _check_seq(self, seq: int | None) -> None:
        if seq is None:
            return
        expected, self._seq = self._seq + 1, seq
        if seq > expected > 1 and self._on_gap is not None:
            self._on_gap(expected, seq)


def _lost(message: aiohttp.WSMessage, close_code: int | None) -> ConnectionLost:
    if message.type is aiohttp.WSMsgType.CLOSE:
        reason = str(message.extra or "")
        detail = f": {reason}" if reason else ""
        return ConnectionLost(
            f"The Gateway closed the connection ({message.data}){detail}.",
            code=message.data,
            reason=reason,
        )
    return ConnectionLost("The connection was lost.", code=close_code)
