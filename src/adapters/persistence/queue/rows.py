"""What a LocalQueue needs of the RunEvents beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ....domain.runs import Claim, RunEvent, RunRecord, RunSpec


@dataclass(frozen=True, slots=True)
class KeptSpec:
    """The spec of a Run that an earlier process left without a terminal event, and how many
    processes died while they had it."""

    spec: RunSpec
    lost: int


class RunRows(Protocol):
    """The records of Runs, and their events without a fence: the queue itself is the authority."""

    async def reserve(self, record: RunRecord, spec: RunSpec | None = None) -> RunRecord | None:
        """Keep the record and, until the Run ends, a spec, unless a record of its id is kept:
        then that one is returned as it stands now, and nothing has changed. None: the id is the
        caller's, and on the disk; `open` or `release` follows. Of callers at the same time exactly
        one gets None."""
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

    def keep(self, spec: RunSpec) -> None:
        """Keep the spec of a Run that was opened until it ends, so that another process can go on
        with the Run."""
        ...

    def hand_back(self, run_id: str) -> bool:
        """The Run is queued once more, for the next process. False where its spec is not kept:
        then nothing has changed."""
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

    def kept_spec(self, run_id: str) -> KeptSpec | None:
        """The spec of one of `unfinished`; None where the Run cannot go on."""
        ...
