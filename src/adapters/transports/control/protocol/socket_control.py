"""The interface between a connection and the server's WebSocket implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .....domain.byte_budget import Charge

EXTENSION = "opensoul.websocket"
"""The key of the Wire in the ASGI scope's extensions."""
MAX_FRAMES_BEFORE_HELLO = 64
"""Frames that a peer may send before it is authenticated."""
SMALL_FRAME = 256
"""Payload bytes below which processing a frame costs more than transferring it."""
FRAME_RATE = 100.0
FRAME_BURST = 1_000
"""Control frames and small fragments per second, and at once, of an authenticated peer."""
BEGINNING = 2_048
"""Characters kept of a message that is rejected before it is complete; they likely contain its
id."""


class Wire(Protocol):
    """Control of one WebSocket below the level of messages. The bodies here have no effect."""

    limit: int
    """Maximum bytes of one message; a longer one closes the connection with 1009."""

    limit_reason: str
    """The reason in that close frame."""

    authenticated: bool
    """False: the number of the peer's frames is limited; True: their rate. Exceeding the limit
    closes the connection with 1008."""

    def charge_to(self, charge: Charge) -> None:
        """Charge all bytes received from now on, including incomplete messages. If the charge is
        refused, only the first BEGINNING characters of the message are kept."""
        return

    def let_go(self) -> bool:
        """Release the charge of the oldest message, which the caller has taken. False if only its
        beginning was kept."""
        return True

    def cut(self) -> None:
        """Abort the TCP connection, even if the peer does not read. May be called twice."""
        return

    def unsent(self) -> int:
        """Bytes written that the operating system has not accepted, because the peer is slow."""
        return 0

    async def ended(self) -> None:
        """Wait until no further message will arrive; messages still queued are void."""


@dataclass(slots=True)
class NoWire(Wire):
    """The fallback for servers without a Wire, such as a test client: it has no effect."""

    limit: int = 0
    limit_reason: str = ""
    authenticated: bool = False

    async def ended(self) -> None:
        """Never returns: such a server only sends a disconnect message."""
        await asyncio.Event().wait()


def wire_of(scope: Mapping[str, Any]) -> Wire:
    wire: Wire | None = (scope.get("extensions") or {}).get(EXTENSION)
    return NoWire() if wire is None else wire
