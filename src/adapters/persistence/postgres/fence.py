"""A condition that every transaction of a task checks before it writes."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from ....domain.errors import LeaseLost


@dataclass(slots=True)
class Fence:
    """A statement that returns a row, which it locks, for as long as its owner may write. `lost`:
    the message where it returns none. It is checked while it is `active`."""

    query: str
    values: Sequence[object]
    lost: str
    active: bool = True

    async def check(self, connection: AsyncConnection[Any]) -> None:
        """In the transaction that writes. Raises LeaseLost."""
        if not (await connection.execute(self.query, self.values)).rowcount:
            raise LeaseLost(self.lost)


_FENCE: ContextVar[Fence | None] = ContextVar("fence", default=None)


def set_fence(fence: Fence) -> None:
    """Have this task, and the tasks that it starts from now on, check the Fence."""
    _FENCE.set(fence)


def active_fence() -> Fence | None:
    """The Fence of this task; None where it has none, or an inactive one."""
    fence = _FENCE.get()
    return fence if fence is not None and fence.active else None
