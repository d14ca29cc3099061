"""The stored state of heartbeats: queued texts, whether they are on, and the last one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class HeartbeatBook(Protocol):
    """For all processes of a Gateway. All methods raise StoreFailed."""

    async def note(self, text: str, limit: int) -> bool:
        """Queue a text for the next heartbeat. False, and nothing changes, if `limit` texts are
        queued already."""
        ...

    async def take(self) -> tuple[str, ...]:
        """Remove the queued texts, and return them, oldest first."""
        ...

    async def put_back(self, texts: Sequence[str]) -> None:
        """Queue texts again that were taken, before all others."""
        ...

    async def is_on(self) -> bool:
        """What `turn` has stored last; True where it has not."""
        ...

    async def turn(self, on: bool) -> None:
        """Switch heartbeats on or off."""
        ...

    async def last(self) -> str | None:
        """What was stored with `set_last`; None: there was no heartbeat."""
        ...

    async def set_last(self, payload: str) -> None:
        """Store the payload of the newest heartbeat."""
        ...
