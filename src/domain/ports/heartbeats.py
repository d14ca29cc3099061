"""What heartbeats share: texts that wait, whether they are on, and the last one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class HeartbeatBook(Protocol):
    """For all processes of a Gateway. All methods raise StoreFailed."""

    async def note(self, text: str, limit: int) -> bool:
        """Let a text wait for the next heartbeat; False if `limit` texts do already."""
        ...

    async def take(self) -> tuple[str, ...]:
        """Remove the texts that wait, and return them, oldest first."""
        ...

    async def put_back(self, texts: Sequence[str]) -> None:
        """Let texts that were taken wait again, before all others."""
        ...

    async def is_on(self) -> bool: ...

    async def turn(self, on: bool) -> None: ...

    async def last(self) -> str | None:
        """What was stored with `set_last`; None: there was no heartbeat."""
        ...

    async def set_last(self, payload: str) -> None: ...
