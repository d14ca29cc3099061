"""Rows of Runs as records, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .....domain.runs import OnLeave, RunRecord, RunSpec, RunStatus
from .....domain.sessions import SessionKey
from ...common import decode_spec, text

Row = tuple[Any, ...]

_NAMES = (
    *("number", "id", "session_key", "agent_id", "principal_id", "source", "on_leave"),
    *("fingerprint", "status", "accepted_at", "started_at", "ended_at", "last_seq", "owner"),
    *("attempt", "lease_until"),
)
_MORE = (
    *("state", "lane", "depth", "spec", "queued_at", "claimed_at", "lost", "taken_over"),
    *("abort_reason", "last_signal"),
)
RECORD = ", ".join(_NAMES)
"""The columns of `record_of_row`."""
STORED = ", ".join((*_NAMES, *_MORE))
"""Those of `stored_of_row`."""
STORED_OF_RUN = ", ".join(f"(run).{name}" for name in (*_NAMES, *_MORE))
"""The same, of a column `run` that has a whole row."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A Run as it is stored. `spec` is None for a command, and for a Run that has ended."""

    number: int
    record: RunRecord
    state: str
    lane: bytes | None
    depth: int
    spec: bytes | None
    queued_at: float
    claimed_at: float | None
    lost: int
    taken_over: bool
    abort_reason: str | None
    last_signal: int

    def load_spec(self) -> RunSpec:
        """What is known of what was asked for. Raises Undecodable."""
        return decode_spec(self.spec) if self.spec is not None else spec_of(self.record)


def record_of_row(row: Row) -> tuple[int, RunRecord]:
    """The Run's number, and the Run."""
    status = RunStatus(row[8])
    return row[0], RunRecord(
        id=text(row[1]),
        session_key=_session_key(row[2]),
        agent_id=text(row[3]),
        principal_id=text(row[4]),
        source=text(row[5]),
        on_leave=OnLeave(row[6]),
        fingerprint=text(row[7]),
        status=status,
        accepted_at=row[9],
        started_at=row[10],
        ended_at=row[11],
        last_seq=row[12],
        owner="" if status.final else row[13] or "",
        attempt=row[14],
        lease_until=row[15],
    )


def _session_key(key: bytes) -> SessionKey:
    _, agent_id, rest = text(key).split(":", 2)
    return SessionKey(agent_id, rest)


def stored_of_row(row: Row) -> StoredRun:
    number, record = record_of_row(row)
    state, lane, depth, spec, queued_at, claimed_at, lost, taken_over, reason, signal = row[16:]
    return StoredRun(
        number=number,
        record=record,
        state=state,
        lane=lane,
        depth=depth,
        spec=spec,
        queued_at=queued_at,
        claimed_at=claimed_at,
        lost=lost,
        taken_over=taken_over,
        abort_reason=None if reason is None else text(reason),
        last_signal=signal,
    )


def spec_of(record: RunRecord) -> RunSpec:
    """What is known of a Run whose spec is not stored."""
    return RunSpec(
        id=record.id,
        agent_id=record.agent_id,
        session_key=record.session_key,
        principal_id=record.principal_id,
        messages=(),
        on_leave=record.on_leave,
        accepted_at=record.accepted_at,
        source=record.source,
    )
