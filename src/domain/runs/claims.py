"""The right to execute a Run, and the signals that reach a Run from outside."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from ..immutable import immutable
from ..messages import Message
from .records import RunRecord
from .spec import RunSpec


@dataclass(frozen=True, slots=True)
class ApprovalDecided:
    """Somebody has decided about an approval that the Run asked for."""

    approval_id: str
    decision: str


@dataclass(frozen=True, slots=True)
class MessageInjected:
    """A message for the Run that is going on."""

    message: Message


Signal = ApprovalDecided | MessageInjected


@immutable(frozen=True, slots=True)
class Claim:
    """The right to execute a Run until `lease_until`, or until its last renewal expires.

    `owner` and `attempt` are the fencing token: what another owner, or an earlier attempt, writes
    is refused. `owner` names one executor in one process, never a host.
    """

    spec: RunSpec
    owner: str
    attempt: int
    lease_until: float
    """Unix time in seconds, without renewals."""
    queued: float = 0.0
    """Seconds that the Run waited in the queue."""
    lost: int = 0
    """How many earlier attempts ended because their lease expired."""
    taken_over: bool = False
    """The attempt before this one ended because its lease expired."""
    signals: tuple[Signal, ...] = ()
    """Those that no attempt has dealt with, oldest first."""


@immutable(frozen=True, slots=True)
class Submission:
    """A Run that was accepted; `fresh` is False where an earlier request began it. `spec`: what the
    request itself asks for."""

    record: RunRecord
    fresh: bool
    spec: RunSpec | None = None


class Inbox:
    """The signals of a Run that is executed, in order. A runner reads them when it wants to."""

    __slots__ = ("_arrived", "_unread", "read")

    def __init__(self, signals: tuple[Signal, ...] = ()) -> None:
        self._unread = deque(signals)
        self._arrived: asyncio.Event | None = None
        self.read = 0
        """How many were read."""

    def __len__(self) -> int:
        """How many are unread."""
        return len(self._unread)

    def put(self, signal: Signal) -> None:
        self._unread.append(signal)
        if self._arrived is not None:
            self._arrived.set()

    def take(self) -> Signal | None:
        """The oldest unread one, if there is one."""
        if not self._unread:
            return None
        self.read += 1
        return self._unread.popleft()

    async def next(self) -> Signal:
        """The oldest unread one, once there is one."""
        while (signal := self.take()) is None:
            self._arrived = self._arrived or asyncio.Event()
            self._arrived.clear()
            await self._arrived.wait()
        return signal
