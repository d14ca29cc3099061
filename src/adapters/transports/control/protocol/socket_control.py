"""What a connection may ask of the server beneath it: limits to move, and a way to cut it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .....domain.byte_budget import Charge

EXTENSION = "opensoul.websocket"
"""The name under which a server puts the Wire into the scope's extensions."""
MAX_FRAMES_BEFORE_HELLO = 64
"""Frames that a peer may send before it has proven itself."""
SMALL_FRAME = 256
"""Payload bytes below which a frame costs more than the transfer of its payload."""
FRAME_RATE = 100.0
FRAME_BURST = 1_000
"""Control frames and small fragments that a proven peer may send a second, and at once."""
BEGINNING = 2_048
"""What is kept of a message that is refused before it is complete: its id is likely there."""


class Wire(Protocol):
    """One WebSocket's connection, below its messages."""

    limit: int
    """Bytes of one message, over all its fragments; beyond it the connection closes with 1009."""

    limit_reason: str
    """The reason in that close frame."""

    authenticated: bool
    """Whether the peer has proven itself: until then its frames are limited to a number, after
    that to a rate. Beyond it the connection closes with 1008."""

    def charge_to(self, charge: Charge) -> None:
        """Charge for what is received from now on, also of a message that is not complete. Where
        that is refused, only the first BEGINNING characters of the message are kept."""
        ...

    def let_go(self) -> bool:
        """Charge no longer for the oldest message, which the caller has taken. False where only its
        beginning was kept."""
        ...

    def cut(self) -> None:
        """End the TCP connection at once, also when the peer takes nothing; harmless if ended."""
        ...

    def unsent(self) -> int:
        """Bytes sent that the system has not taken yet, because the peer does not."""
        ...

    async def ended(self) -> None:
        """Return once no further message will arrive; the messages still queued are void."""
        ...


@dataclass(slots=True)
class NoWire:
    """Where the server offers none, as in a test client: nothing is limited, nothing is cut."""

    limit: int = 0
    limit_reason: str = ""
    authenticated: bool = False

    def charge_to(self, charge: Charge) -> None:
        """Nothing is known here of a message before it is complete."""

    def let_go(self) -> bool:
        """Nothing was charged."""
        return True

    def cut(self) -> None:
        """Nothing to cut."""

    def unsent(self) -> int:
        return 0

    async def ended(self) -> None:
        """Never: such a server tells the end by its disconnect message alone."""
        await asyncio.Event().wait()


def wire_of(scope: Mapping[str, Any]) -> Wire:
    """The connection of an ASGI WebSocket scope."""
    wire: Wire | None = (scope.get("extensions") or {}).get(EXTENSION)
    return NoWire() if wire is None else wire
