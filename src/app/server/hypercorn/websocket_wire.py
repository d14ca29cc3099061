"""What the application gets of one WebSocket: its messages, its limit and its end."""

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
    """Handed to the application in the scope's extensions.

    `limit` counts the bytes of one message over all its fragments. The application raises it,
    changes the reason, and sets `authenticated`, when it knows who asks.
    """

    def __init__(self, transport: asyncio.WriteTransport, inbox: Inbox) -> None:
        self.limit = _PREAUTH_LIMIT
        self.limit_reason = _PREAUTH_REASON
        self.authenticated = False
        self.writes = 0
        """Writes that went through so far."""
        self._transport = transport
        self._inbox = inbox
        self._charge: Charge = NO_CHARGE
        self._incomplete: int | None = 0
        """Bytes that are charged for the message that arrives; None: that was refused."""
        self._complete: deque[int | None] = deque()
        """The same for messages that the application has not taken yet."""

    def charge_to(self, charge: Charge) -> None:
        """Charge for what is received from now on."""
        self._charge, self._incomplete = charge, 0
        self._complete.clear()

    def hold(self, size: int, *, finished: bool) -> bool:
        """Charge for a piece of a message, `finished`: the last one. False where that is refused:
        then nothing of the message is charged."""
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
        """Charge no longer for the oldest message. False where it was cut."""
        size = self._complete.popleft() if self._complete else 0
        self._charge.reduce(size or 0)
        return size is not None

    def cut(self) -> None:
        """End the TCP connection at once, also when a write is blocked."""
        self._inbox.close(1006)
        self._transport.abort()

    def unsent(self) -> int:
        """Bytes written that the system has not taken yet."""
        return self._transport.get_write_buffer_size()

    def stop_writing(self) -> None:
        """Send the peer our end of file, and read on; TLS has no such half-close.

        Does nothing while bytes are unsent: asyncio would shut the socket down later, in a callback
        of the loop, where a peer that has gone meanwhile is an error that nobody catches.
        """
        transport = self._transport
        if transport.can_write_eof() and not transport.is_closing() and self.unsent() == 0:
            # asyncio, unlike uvloop, raises when the peer has closed its socket already.
            with suppress(OSError):
                transport.write_eof()

    async def taken(self, write: Coroutine[Any, Any, None], patience: float) -> bool:
        """Write; cut, and answer False, when the peer takes nothing for so many seconds.

        A slow peer that does take something gets the time it needs.
        """
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
        """Return once no further message will arrive."""
        await self._inbox.ended.wait()


class Inbox:
    """What goes to the application, one message at a time.

    hypercorn's own queue blocks for ever when the application has left; this one ends.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.held = False
        """Whether a message waits here because the application does not take the one before."""
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self._waiting: dict[str, Any] | None = {"type": "websocket.connect"}
        self._news.set()
        self._code = 1006

    async def put(self, message: dict[str, Any]) -> None:
        """Wait until the application took the message before this one; void after the end."""
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
        """Tell the application the end, once, and let go of whoever waits here."""
        if not self.ended.is_set():
            self._code = code
            self.ended.set()
            self._room.set()
            self._news.set()
