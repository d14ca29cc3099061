"""The application's access to one WebSocket: its messages, its limits and its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from ....domain.byte_budget import NO_CHARGE, Charge
from ....domain.errors import GatewayBusy

_PREAUTH_LIMIT = 65_536
_PREAUTH_REASON = "preauth payload too large"


class ServerWire:
    """An extension in the application's scope.

    `limit`: bytes of one message in all its fragments. The application raises it, changes the
    reason, and sets `authenticated` when the client is authenticated.
    """

    def __init__(self, transport: asyncio.WriteTransport, inbox: Inbox) -> None:
        self.limit = _PREAUTH_LIMIT
        self.limit_reason = _PREAUTH_REASON
        self.authenticated = False
        self.writes = 0
        """Completed writes."""
        self._transport = transport
        self._inbox = inbox
        self._charge: Charge = NO_CHARGE
        self._incomplete: int | None = 0
        """Bytes charged for the incomplete message; None if the charge was refused."""
        self._complete: deque[int | None] = deque()
        """The same for complete messages that the application has not read yet."""

    def charge_to(self, charge: Charge) -> None:
        """Charge for messages received from now on."""
        self._charge, self._incomplete = charge, 0
        self._complete.clear()

    def hold(self, size: int, *, finished: bool) -> bool:
        """Charge for a piece of a message; `finished`: it is the last one. False if the charge is
        refused; nothing of the message is charged then."""
        if self._incomplete is not None:
            try:
                self._charge.add(size)
                self._incomplete += size
            except GatewayBusy:
                self._charge.reduce(self._incomplete)
                self._incomplete = None
        held = self._incomplete is not None
        if finished:
            self._complete.append(self._incomplete)
            self._incomplete = 0
        return held

    def let_go(self) -> bool:
        """End the charge for the oldest message. False if that message was cut."""
        size = self._complete.popleft() if self._complete else 0
        self._charge.reduce(size or 0)
        return size is not None

    def cut(self) -> None:
        """Abort the TCP connection, even if a write is blocked."""
        self._inbox.close(1006)
        self._transport.abort()

    def unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def stop_writing(self) -> None:
        """Send our end of file, and read on; TLS has no half-close.

        Does nothing while bytes are unsent: asyncio would shut the socket down later, in a callback
        of the loop, where an error of a disconnected peer cannot be caught.
        """
        transport = self._transport
        if transport.can_write_eof() and not transport.is_closing() and self.unsent() == 0:
            # asyncio, unlike uvloop, raises when the peer has closed its socket already.
            with suppress(OSError):
                transport.write_eof()

    async def taken(self, write: Coroutine[Any, Any, None], patience: float) -> bool:
        """Complete a write; if the peer reads nothing for that many seconds, abort the connection
        and return False. A slow peer that reads something is not limited."""
        writing = asyncio.ensure_future(write)
        await asyncio.sleep(0)
        progress = self._progress()
        while not (await asyncio.wait({writing}, timeout=patience))[0]:
            before, progress = progress, self._progress()
            if progress <= before:
                self.cut()
                writing.cancel()
                await asyncio.wait({writing})
                return False
        return True

    def _progress(self) -> tuple[int, int]:
        return self.writes, -self.unsent()

    async def ended(self) -> None:
        """Wait until no further message can arrive."""
        await self._inbox.ended.wait()


class Inbox:
    """A queue of one message for the application.

    hypercorn's queue blocks forever once the application has returned; this one can be closed.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.held = False
        """Whether a message waits because the application has not read the previous one."""
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self._waiting: dict[str, Any] | None = {"type": "websocket.connect"}
        self._news.set()
        self._code = 1006

    async def put(self, message: dict[str, Any]) -> None:
        """Enqueue a message once the previous one is read; ignored after the end."""
        self.held = True
        await self._room.wait()
        self.held = False
        if not self.ended.is_set():
            self._waiting = message
            self._room.clear()
            self._news.set()

    async def get(self) -> Any:
        """The application's `receive`."""
        await self._news.wait()
        message, self._waiting = self._waiting, None
        if message is None:
            return {"type": "websocket.disconnect", "code": self._code}
        self._room.set()
        if not self.ended.is_set():
            self._news.clear()
        return message

    def close(self, code: int) -> None:
        """Report the end to the application, once, and release waiting tasks."""
        if not self.ended.is_set():
            self._code = code
            self.ended.set()
            self._room.set()
            self._news.set()
