"""What heartbeats share, in a Gateway that is one process."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class MemoryHeartbeats:
    """A HeartbeatBook."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._on = True
        self._last: str | None = None

    async def note(self, text: str, limit: int) -> bool:
        if len(self._texts) >= limit:
            return False
        self._texts.append(text)
        return True

    async def take(self) -> tuple[str, ...]:
        texts = tuple(self._texts)
        self._texts.clear()
        return texts

    async def put_back(self, texts: Sequence[str]) -> None:
        self._texts.extendleft(reversed(texts))

    async def is_on(self) -> bool:
        return self._on

    async def turn(self, on: bool) -> None:
        self._on = on

    async def last(self) -> str | None:
        return self._last

    async def set_last(self, payload: str) -> None:
        self._last = payload
