"""What a Log knows of its file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from .....domain.errors import StoreFailed
from .....domain.runs import EventBatch, RunSpec, RunStatus
from ...common import Log, Waiters, size_of
from .writes import Batch


@dataclass(slots=True, eq=False)
class PersistedRun(Log):
    """A Log that is brought to the disk."""

    taken: int = 0
    """Events up to this one were handed to the writer."""
    kept: int = 0
    """Events up to this one are in the file, but for those that fell out."""
    trimmed: int = 1
    """Events before this one are no longer in the file."""
    known: bool = False
    """The Run is in the file."""
    written_status: RunStatus | None = None
    """The status that was handed to the writer."""
    dirty: bool = False
    """There is something for the writer, and it will be fetched."""
    dirty_since: float = 0.0
    """By the clock of the event loop."""
    kept_from: float | None = None
    """When the Run ended, by the clock of what expires."""
    claim: asyncio.Future[None] | None = None
    """There while a reservation is being written or taken back."""
    spec: RunSpec | None = None
    """Kept in the file until the Run ends."""
    spec_taken: bool = False
    """It was handed to the writer, or is in the file."""
    lost: int = 0
    """How many processes had died with the Run when this one began."""
    kept_waiters: Waiters = field(default_factory=set)

    def is_due(self, old: float) -> bool:
        """Whether the Run has ended, somebody waits for the file, or what is new is that `old`."""
        return self.finished or bool(self.kept_waiters) or self.dirty_since <= old

    def take(self) -> Batch:
        """What the file does not know yet."""
        self.dirty = False
        count = min(self.last - self.taken, len(self.events))
        new = tuple(self.events[len(self.events) - count :])
        changed = self.written_status is not self.status
        dropped = self.first if self.first > self.trimmed else 0
        put_spec = self.spec is not None and not self.spec_taken and not self.finished
        batch = Batch(
            self.number,
            self.record if changed else None,
            known=self.known,
            events=EventBatch(self.last - len(new) + 1, new) if new else None,
            drop_before=dropped,
            kept_from=self.kept_from,
            spec=self.spec if put_spec else None,
            drop_spec=self.finished and self.spec_taken,
        )
        self.spec_taken = self.spec_taken or put_spec
        if self.finished:
            self.spec = None  # The log stays in memory for a while, and messages may be large.
        self.taken, self.written_status = self.last, self.status
        self.trimmed = max(self.trimmed, dropped)
        return batch

    def shrink(self) -> None:
        """Let the events go but for the terminal one. Who asks for them finds them expired."""
        del self.events[:-1]
        self.size = size_of(self.events[0])

    def untake(self) -> None:
        """What was taken has not reached the file."""
        self.taken, self.written_status = self.kept, None
        if self.spec is not None and not self.finished:
            self.spec_taken = False

    def renew(self) -> None:
        """The file is another one, which has nothing of this log."""
        self.known, self.written_status = False, None
        self.taken = self.kept = self.first - 1
        self.trimmed = self.first
        self.spec_taken = False

    def disappoint(self, why: str) -> None:
        """Who waits for the file waits in vain."""
        for waiter in self.kept_waiters:
            if not waiter.done():
                waiter.set_exception(StoreFailed(why))
        self.kept_waiters.clear()
