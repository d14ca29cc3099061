"""What a run log reads from its SQLite database, as functions of a connection.

They raise sqlite3.Error, and Undecodable for damaged events. A damaged cell of a run is replaced
by what is likely, and logged: one run must not hide the others, nor keep the Gateway from starting.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from .....domain.runs import EventBatch, OnLeave, RunEvent, RunQuery, RunRecord, RunSpec, RunStatus
from .....domain.sessions import SessionKey
from ...common import (
    MOST_AT_ONCE,
    MOST_BYTES_AT_ONCE,
    Cells,
    DamageLog,
    Numbered,
    Stamp,
    Undecodable,
    decode_cursor,
    decode_events,
    decode_spec,
)
from ..columns import column, snapshot
from .schema import key_of, keys_of, seq_of

_COLUMNS = """
    number, id, session_key, agent_id, principal_id, source, on_leave, fingerprint,
    status, accepted_at, started_at, ended_at, owner, attempt, lease_until, last_seq"""
_FIND = f"SELECT {_COLUMNS} FROM runs WHERE id = ?"  # noqa: S608 - no values in it
_UNFINISHED = f"SELECT {_COLUMNS} FROM runs WHERE ended_at IS NULL"  # noqa: S608 - the same
_SPECS = """
    SELECT number, lost, body FROM specs JOIN runs USING (number) WHERE ended_at IS NULL"""
_NEWEST = """
    SELECT kept_from, ended_at FROM runs
    WHERE kept_from BETWEEN -1e11 AND 1e11 AND ended_at BETWEEN -1e11 AND 1e11
    ORDER BY kept_from DESC LIMIT 1"""
_LAST = "SELECT last_seq FROM events WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1"
_ROW_WITH = "SELECT max(key) FROM events WHERE key BETWEEN ? AND ?"
_EVENTS = "SELECT key, last_seq, body FROM events WHERE key BETWEEN ? AND ? ORDER BY key"


@dataclass(frozen=True, slots=True)
class Kept:
    """Some of a Run's events, in order, and the Run."""

    record: RunRecord
    batch: EventBatch | None


@dataclass(frozen=True, slots=True)
class Contents:
    """What there is in the file when it is opened."""

    next_number: int
    size: int
    """Bytes of events of finished Runs."""
    unfinished: Sequence[Numbered]
    newest: Stamp | None
    """Of the Runs that have ended."""
    specs: Mapping[int, tuple[RunSpec, int]]
    """Of unfinished Runs, by their numbers, and how many processes died with each."""


def read_contents(connection: sqlite3.Connection, damage: DamageLog) -> Contents:
    (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM runs").fetchone()
    (size,) = connection.execute(
        "SELECT coalesce(sum(size), 0) FROM runs WHERE size > 0"
    ).fetchone()
    rows = connection.execute(_UNFINISHED).fetchall()
    newest = connection.execute(_NEWEST).fetchone()
    return Contents(
        number + 1,
        size,
        [_decode(connection, row, damage) for row in rows],
        None if newest is None else Stamp(*newest),
        _specs(connection, damage),
    )


def _specs(connection: sqlite3.Connection, damage: DamageLog) -> dict[int, tuple[RunSpec, int]]:
    """A damaged one is logged and left out: its Run then ends."""
    specs = {}
    for number, lost, body in connection.execute(_SPECS).fetchall():
        try:
            specs[number] = (decode_spec(body), lost)
        except Undecodable as error:
            damage.note(f"run number {number}", "body", str(error))
    return specs


def find_run(
    connection: sqlite3.Connection, run_id: str, damage: DamageLog | None = None
) -> Numbered | None:
    """`damage`: where to log what is damaged once, for those who read the same Run often."""
    row = connection.execute(_FIND, (column(run_id),)).fetchone()
    return None if row is None else _decode(connection, row, damage or DamageLog())


def read_run(connection: sqlite3.Connection, run_id: str, damage: DamageLog) -> Numbered | None:
    with snapshot(connection):
        return find_run(connection, run_id, damage)


def read_events(connection: sqlite3.Connection, run_id: str, after: int) -> Kept | None:
    """The next of the events behind `after`, as many as are read in one go and lack none between
    them; None: no such Run."""
    with snapshot(connection):
        found = find_run(connection, run_id)
        if found is None:
            return None
        number, record = found
        low, high = keys_of(number)
        (start,) = connection.execute(_ROW_WITH, (low, key_of(number, after + 1))).fetchone()
        with closing(connection.execute(_EVENTS, (start or low, high))) as rows:
            return Kept(record, _span(rows, after))


def _span(rows: Iterable[tuple[int, int, bytes]], after: int) -> EventBatch | None:
    first, size = 0, 0
    events: list[RunEvent] = []
    for key, last, body in rows:
        if last <= after:
            continue
        seq = seq_of(key)
        if events and seq != first + len(events):
            break
        decoded = decode_events(body)
        if not events:
            first = max(seq, after + 1)
            decoded = decoded[first - seq :]
        events += decoded
        size += len(body)
        if size > MOST_BYTES_AT_ONCE or len(events) >= MOST_AT_ONCE:
            break
    return EventBatch(first, events[:MOST_AT_ONCE]) if events else None


def list_runs(
    connection: sqlite3.Connection, query: RunQuery, limit: int, damage: DamageLog
) -> list[Numbered]:
    """Up to `limit` Runs that the query means, newest first."""
    conditions: list[str] = ["TRUE"]
    values: list[Any] = []
    if query.session_key is not None:
        conditions.append("session_key = ?")
        values.append(column(str(query.session_key)))
    if query.agent_id is not None:
        conditions.append("agent_id = ?")
        values.append(column(query.agent_id))
    if query.principal_id is not None:
        conditions.append("principal_id = ?")
        values.append(column(query.principal_id))
    if query.status is not None:
        conditions.append("status = ?")
        values.append(query.status.value)
    before = decode_cursor(query.cursor)
    if before is not None:
        conditions.append("number < ?")
        values.append(before)
    sql = (
        f"SELECT {_COLUMNS} FROM runs WHERE {' AND '.join(conditions)}"  # noqa: S608 - fixed texts
        " ORDER BY number DESC LIMIT ?"
    )
    with snapshot(connection):
        rows = connection.execute(sql, (*values, limit)).fetchall()
        return [_decode(connection, row, damage) for row in rows]


def _decode(connection: sqlite3.Connection, row: Sequence[Any], damage: DamageLog) -> Numbered:
    number, run_id, key, agent, principal, source, leave, print_, status, *times, last = row
    accepted_at, started_at, ended_at, owner, attempt, lease_until = times
    if ended_at is None:  # Its row does not change with every event.
        kept = connection.execute(_LAST, keys_of(number)).fetchone()
        last = last if kept is None else kept[0]
    cells = Cells(str(run_id), damage)
    agent_id = cells.text("agent_id", agent)
    return number, RunRecord(
        id=cells.text("id", run_id),
        session_key=_session_key(cells.text("session_key", key), agent_id, cells),
        agent_id=agent_id,
        principal_id=cells.text("principal_id", principal),
        source=cells.text("source", source),
        on_leave=cells.member("on_leave", leave, OnLeave, OnLeave.CONTINUE),
        fingerprint=cells.text("fingerprint", print_),
        status=cells.member("status", status, RunStatus, RunStatus.FAILED),
        accepted_at=cells.time("accepted_at", accepted_at),
        started_at=None if started_at is None else cells.time("started_at", started_at),
        ended_at=None if ended_at is None else cells.time("ended_at", ended_at),
        last_seq=cells.count("last_seq", last),
        owner="" if owner is None else cells.text("owner", owner),
        attempt=0 if attempt is None else cells.count("attempt", attempt),
        lease_until=None if lease_until is None else cells.time("lease_until", lease_until),
    )


def _session_key(key: str, agent_id: str, cells: Cells) -> SessionKey:
    parts = key.split(":", 2)
    if len(parts) < 3:
        cells.log.note(cells.place, "session_key", "it is not a session key")
        return SessionKey(agent_id, key)
    return SessionKey(parts[1], parts[2])
