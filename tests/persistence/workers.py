"""A worker for the tests of run queues."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from opensoul.domain.runs.claims import Claim, Signal
from opensoul.domain.runs.events import Aborted
from opensoul.domain.runs.spec import RunSpec


@dataclass
class Hands:
    """A worker that remembers what it was given, and does nothing by itself."""

    claims: list[Claim] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    closings: list[str] = field(default_factory=list)
    stops: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, claim: Claim) -> None:
        self.claims.append(claim)
        self.changed.set()

    def abort(self, run_id: str, reason: str) -> bool:
        self.aborted.append(run_id)
        self.changed.set()
        return self.stops

    def deliver(self, run_id: str, signal: Signal) -> None:
        self.signals.append(signal)
        self.changed.set()

    def closed(self, spec: RunSpec, ending: Aborted) -> None:
        self.closings.append(spec.id)

    @property
    def taken(self) -> list[tuple[str, int]]:
        return [(claim.spec.id, claim.attempt) for claim in self.claims]

    async def has(self, *, claims: int = 0, aborted: int = 0, signals: int = 0) -> None:
        """Return once it was given so many."""
        async with asyncio.timeout(20):
            while (
                len(self.claims) < claims
                or len(self.aborted) < aborted
                or len(self.signals) < signals
            ):
                self.changed.clear()
                await self.changed.wait()
