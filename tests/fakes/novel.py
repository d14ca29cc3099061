"""A kind of run event that no consumer knows, and stores that put one before every other event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import pytest

from opensoul.adapters.persistence.memory import MemoryRunEvents
from opensoul.adapters.persistence.sqlite.runs import SqliteRunEvents
from opensoul.domain.runs import KINDS, Claim, EventKind, EventKinds, RunEvent, kinds


@dataclass(frozen=True, slots=True)
class Novel:
    number: int


def _dump(event: Novel) -> list[object]:
    return [event.number]


def _load(fields: Sequence[object]) -> RunEvent:
    (number,) = fields
    return novel(cast(int, number))


def novel(number: int) -> RunEvent:
    """A Novel, as far as a type checker is concerned one of the known events."""
    return cast(RunEvent, Novel(number))


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the kind to the registry, as a line in `KINDS` does."""
    kind = EventKind("novel", "n", Novel, "novel", _dump, _load)
    monkeypatch.setattr(kinds, "KINDS", EventKinds(*KINDS, kind))


def mixed(events: Iterable[RunEvent]) -> list[RunEvent]:
    return [each for number, event in enumerate(events) for each in (novel(number), event)]


class MixedMemory(MemoryRunEvents):
    def put(self, run_id: str, *events: RunEvent) -> int:
        return super().put(run_id, *mixed(events))

    async def append(self, claim: Claim, events: Sequence[RunEvent]) -> int:
        return await super().append(claim, mixed(events))


class MixedSqlite(SqliteRunEvents):
    def put(self, run_id: str, *events: RunEvent) -> int:
        return super().put(run_id, *mixed(events))

    async def append(self, claim: Claim, events: Sequence[RunEvent]) -> int:
        return await super().append(claim, mixed(events))
