"""What a LocalQueue needs of the RunEvents beside it."""

from __future__ import annotations

from typing import Protocol

from ....domain.runs import Claim, RunEvent, RunRecord


class RunRows(Protocol):
    """The records of Runs, and their events without a fence: the queue itself is the authority."""

    async def reserve(self, record: RunRecord) -> RunRecord | None:
        """Keep the record, unless one of its id is kept: then that one is returned as it stands
        now, and nothing has changed. None: the id is the caller's, and on the disk; `open` or
        `release` follows. Of callers at the same time exactly one gets None."""
        ...

    async def release(self, run_id: str) -> None:
        """Take back a reservation whose Run was not begun."""
        ...

    def open(self, record: RunRecord) -> None:
        """Begin the log of a Run, reserved or not. ValueError when it has one already."""
        ...

    def lease(self, claim: Claim, until: float) -> None:
        """From now on the claim's owner and attempt are the Run's, until that Unix time."""
        ...

    def requeue(self, run_id: str) -> None:
        """The Run is queued once more, and nobody's."""
        ...

    def put(self, run_id: str, *events: RunEvent) -> int:
        """Add events, all or none. RuntimeError behind a terminal event."""
        ...

    async def unfinished(self) -> tuple[RunRecord, ...]:
        """Runs of an earlier process without a terminal event; `put` can still end them. That
        process is dead: it would hold the file otherwise. So its leases have expired."""
        ...
