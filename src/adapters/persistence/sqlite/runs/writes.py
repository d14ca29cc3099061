"""What a run log writes to its SQLite database, as functions of a connection.

They run inside the caller's transaction, raise sqlite3.Error, and can be repeated.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from .....domain.immutable import immutable
from .....domain.runs import EventBatch, RunRecord, RunSpec
from ...common import encode_events, encode_spec
from ..columns import column
from ..rows import insert_rows
from .reads import find_run
from .schema import key_of, keys_of

_INSERT = """
    INSERT INTO runs (number, id, session_key, agent_id, principal_id, source, on_leave,
        fingerprint, status, accepted_at, started_at, ended_at, last_seq, size, kept_from,
        owner, attempt, lease_until)
    VALUES"""
_UNLESS_THERE = """ON CONFLICT (number) DO UPDATE SET
    session_key = excluded.session_key, agent_id = excluded.agent_id,
    principal_id = excluded.principal_id, source = excluded.source, on_leave = excluded.on_leave,
    fingerprint = excluded.fingerprint, status = excluded.status,
    accepted_at = excluded.accepted_at, started_at = excluded.started_at,
    ended_at = excluded.ended_at, last_seq = excluded.last_seq, size = excluded.size,
    kept_from = excluded.kept_from, owner = excluded.owner, attempt = excluded.attempt,
    lease_until = excluded.lease_until"""
_UPDATE = """
    UPDATE runs SET status = ?, started_at = ?, ended_at = ?, last_seq = ?, size = ?, kept_from = ?,
        owner = ?, attempt = ?, lease_until = ?
    WHERE number = ?"""
_SIZE = "SELECT coalesce(sum(length(body)), 0) FROM events WHERE key BETWEEN ? AND ?"
_DROP = "DELETE FROM events WHERE key BETWEEN ? AND ? AND last_seq < ?"
_DELETE_EVENTS = "DELETE FROM events WHERE key BETWEEN ? AND ?"
_DELETE_RUN = "DELETE FROM runs WHERE number = ?"
_OLD = "SELECT number, size FROM runs WHERE kept_from < ? ORDER BY kept_from LIMIT ?"
_OLDEST_WITH_EVENTS = """
    SELECT number, size FROM runs WHERE size > 0 ORDER BY kept_from LIMIT ?"""
_PUT_SPEC = """
    INSERT INTO specs (number, body) VALUES (?, ?)
    ON CONFLICT (number) DO UPDATE SET body = excluded.body"""
_DELETE_SPEC = "DELETE FROM specs WHERE number = ?"
_COUNT_LOST = """
    UPDATE specs SET lost = lost + 1 WHERE number IN (
        SELECT number FROM runs WHERE ended_at IS NULL AND status NOT IN ('queued', 'waiting'))"""
_MOST_AT_ONCE = 16 * 1024 * 1024
"""Bytes of events that are deleted in one go, so that Runs do not wait long behind it."""


@immutable(frozen=True, slots=True)
class Batch:
    """What has happened in one Run since the last batch."""

    number: int
    record: RunRecord | None
    """The Run as it stands, where that has changed."""
    known: bool
    """The Run has a row already, and only its state may be another."""
    events: EventBatch | None
    """The new events, if there are any."""
    drop_before: int
    """Events before this one have fallen out; 0: none did."""
    kept_from: float | None = None
    """When the Run ended, by the clock of what expires."""
    spec: RunSpec | None = None
    """To be kept until the Run ends."""
    drop_spec: bool = False
    """The Run has ended, and its spec is in the file."""


def write_batches(connection: sqlite3.Connection, batches: Sequence[Batch]) -> list[int]:
    """Keep the batches, each of another Run. Tells of each how many bytes of events its Run has in
    all, once it has ended, else 0."""
    bodies = [encode_events(batch.events.events) if batch.events else b"" for batch in batches]
    insert_rows(
        connection,
        "INSERT OR REPLACE INTO events VALUES",
        (
            (key_of(batch.number, batch.events.first), batch.events.last, body)
            for batch, body in zip(batches, bodies, strict=True)
            if batch.events is not None
        ),
    )
    for batch in batches:
        if batch.drop_before:
            connection.execute(_DROP, (*keys_of(batch.number), batch.drop_before))
    sizes = [
        _size(connection, batch, len(body)) for batch, body in zip(batches, bodies, strict=True)
    ]
    changed = [
        (batch, batch.record, size)
        for batch, size in zip(batches, sizes, strict=True)
        if batch.record is not None
    ]
    new = (
        _row(batch.number, record, size, batch.kept_from)
        for batch, record, size in changed
        if not batch.known
    )
    insert_rows(connection, _INSERT, new, _UNLESS_THERE)
    for batch, record, size in changed:
        if batch.known:
            state = (str(record.status), record.started_at, record.ended_at, record.last_seq)
            connection.execute(
                _UPDATE, (*state, size, batch.kept_from, *_lease(record), batch.number)
            )
    for batch in batches:
        if batch.spec is not None:
            connection.execute(_PUT_SPEC, (batch.number, encode_spec(batch.spec)))
        if batch.drop_spec:
            connection.execute(_DELETE_SPEC, (batch.number,))
    return sizes


def _size(connection: sqlite3.Connection, batch: Batch, added: int) -> int:
    """The bytes of all the events that are kept of a Run that has ended; `added`: of those of this
    batch."""
    if batch.record is None or not batch.record.status.final:
        return 0
    if batch.events is not None and batch.events.first == 1:
        return added  # There are no others.
    (size,) = connection.execute(_SIZE, keys_of(batch.number)).fetchone()
    return int(size)


def reserve_run(
    connection: sqlite3.Connection,
    number: int,
    record: RunRecord,
    spec: RunSpec | None,
    *,
    replace: bool,
) -> RunRecord | None:
    """Insert the Run and its spec, unless one of its id is there, which is returned then.

    `replace`: what is there is a reservation that was taken back.
    """
    known = find_run(connection, record.id)
    if known is not None:
        if known[0] == number:
            return None
        if not replace:
            return known[1]
        delete_run(connection, known[0])
    insert_rows(connection, _INSERT, [_row(number, record, 0, None)])
    if spec is not None:
        connection.execute(_PUT_SPEC, (number, encode_spec(spec)))
    return None


def delete_run(connection: sqlite3.Connection, number: int) -> None:
    """Forget a Run and its events."""
    connection.execute(_DELETE_EVENTS, keys_of(number))
    connection.execute(_DELETE_SPEC, (number,))
    connection.execute(_DELETE_RUN, (number,))


def count_lost(connection: sqlite3.Connection) -> None:
    """A process that executed the Runs without an end has stopped."""
    connection.execute(_COUNT_LOST)


def prune_runs(
    connection: sqlite3.Connection, before: float, excess: int, limit: int
) -> tuple[int, int]:
    """Forget Runs that ended before that time, and the events (not more) of the oldest others until
    `excess` bytes are freed: of at most `limit` Runs each. Tells how many Runs, and bytes."""
    pruned = freed = 0
    for number, size in connection.execute(_OLD, (before, limit)).fetchall():
        delete_run(connection, number)
        pruned, freed = pruned + 1, freed + size
        if freed > _MOST_AT_ONCE:
            return pruned, freed
    for number, size in connection.execute(_OLDEST_WITH_EVENTS, (limit,)).fetchall():
        if freed >= min(excess, _MOST_AT_ONCE):
            break
        connection.execute(_DELETE_EVENTS, keys_of(number))
        connection.execute("UPDATE runs SET size = 0 WHERE number = ?", (number,))
        pruned, freed = pruned + 1, freed + size
    return pruned, freed


def _row(number: int, record: RunRecord, size: int, kept_from: float | None) -> tuple[object, ...]:
    return (
        number,
        column(record.id),
        column(str(record.session_key)),
        column(record.agent_id),
        column(record.principal_id),
        column(record.source),
        str(record.on_leave),
        column(record.fingerprint),
        str(record.status),
        record.accepted_at,
        record.started_at,
        record.ended_at,
        record.last_seq,
        size,
        kept_from,
        *_lease(record),
    )


def _lease(record: RunRecord) -> tuple[object, ...]:
    """Who executes a Run is of no use once it has ended, and most rows are those of ended Runs."""
    if record.status.final or not record.owner:
        return None, record.attempt, None
    return column(record.owner), record.attempt, record.lease_until
