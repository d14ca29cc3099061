"""The processes of a Gateway that is one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ....domain.ports import Clock, NodeInfo


class OneNode:
    """A NodeDirectory with this process only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._describe: Callable[[], NodeInfo] | None = None
        self._started_at = 0.0

    async def list(self) -> tuple[NodeInfo, ...]:
        if self._describe is None:
            return ()
        now = self._clock()
        return (replace(self._describe(), started_at=self._started_at, seen_at=now),)

    async def join(self, describe: Callable[[], NodeInfo]) -> None:
        self._describe, self._started_at = describe, self._clock()

    async def leave(self) -> None:
        self._describe = None
