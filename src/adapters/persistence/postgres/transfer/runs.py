"""Runs: those that have ended, with their events, and those that the nodes are to go on with."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .....domain.runs import OnLeave, RunSpec, RunStatus
from ...common import Undecodable, decode_spec, text
from ..columns import data
from ..database import Connection, fetch_all
from ..runs import DEEPEST
from .parts import Column, Files, Kind, Part, copy_rows

_SEQ_BITS = 28
_FIRST = f"e.key & {(1 << _SEQ_BITS) - 1}"
_EVENTS_HERE = f"""
    FROM runs r JOIN events e ON e.key BETWEEN r.number << {_SEQ_BITS}
        AND (r.number << {_SEQ_BITS}) + {(1 << _SEQ_BITS) - 1}
    WHERE {{keys}} ORDER BY e.key"""
_EVENTS_THERE = "FROM runs r JOIN events e ON e.run = r.number WHERE {keys} ORDER BY e.run, e.first"


def _session_key(value: bytes) -> None:
    if text(value).count(":") < 2:
        raise ValueError("is no key of a session")


_IDENTITY = (
    Column("r.id"),
    Column("r.session_key", check=_session_key),
    Column("r.agent_id"),
    Column("r.principal_id"),
    Column("r.source"),
    Column("r.on_leave", "text", check=OnLeave),
    Column("r.fingerprint"),
    Column("r.accepted_at", "float"),
)
_ENDING = (
    Column("r.status", "text", check=RunStatus),
    Column("r.started_at", "float", nullable=True),
    Column("r.ended_at", "float", nullable=True),
    Column("r.last_seq", "int4"),
)
_OF_RUNS = "FROM runs r WHERE {keys} ORDER BY r.number"
_ENDED = Part("runs", (*_IDENTITY, *_ENDING), _OF_RUNS)
_UNFINISHED = Part("runs", _IDENTITY, _OF_RUNS)
_EVENTS = Part(
    "events",
    (
        Column("r.id"),
        Column(_FIRST, "int4", postgres="e.first"),
        Column("e.last_seq", "int4", postgres="e.last"),
        Column("e.body", "body"),
    ),
    _EVENTS_HERE,
    _EVENTS_THERE,
)
_MORE = """
    SELECT id, number, kept_from, coalesce(attempt, 0), status, started_at, last_seq
    FROM runs WHERE id IN ({marks})"""
_SPECS = """
    SELECT r.id, s.lost, s.body FROM specs s JOIN runs r ON r.number = s.number
    WHERE r.ended_at IS NULL"""
_SIZES = f"""
    SELECT r.id, coalesce(sum(length(e.body)), 0) {_EVENTS_HERE.partition("WHERE")[0]}
    WHERE r.id IN ({{marks}}) GROUP BY r.id"""
_TAKEN = "SELECT number FROM runs WHERE number = ANY(%s)"
_NUMBERS = "SELECT nextval(pg_get_serial_sequence('runs', 'number')) FROM generate_series(1, %s)"
_RESERVE = """
    SELECT setval(sequence, greatest(nextval(sequence), %s))
    FROM (SELECT pg_get_serial_sequence('runs', 'number')::regclass AS sequence) AS one"""
_COLUMNS = (
    *("number", "token", "id", "session_key", "agent_id", "principal_id", "source", "on_leave"),
    *("fingerprint", "accepted_at", "status", "started_at", "ended_at", "last_seq", "size"),
    *("state", "lane", "position", "depth", "parent", "spec", "queued_at", "attempt", "lost"),
    *("taken_over", "kept_from"),
)
_TYPES = (
    *("int8", "int8", "bytea", "bytea", "bytea", "bytea", "bytea", "text"),
    *("bytea", "float8", "text", "float8", "float8", "int4", "int8"),
    *("text", "bytea", "int8", "int2", "bytea", "bytea", "float8", "int4", "int4"),
    *("bool", "float8"),
)
_LOCK_LANE = "SELECT lane_lock(%s)::text"
_SETTLE_LANE = "SELECT lane_settle(%s)"
_POSITIONS = "SELECT nextval('lane_positions') FROM generate_series(1, %s)"
_EVENT_COLUMNS = "run, first, last, body"
_EVENT_TYPES = ("int8", "int4", "int4", "bytea")


async def reserve_numbers(connection: Connection, source: Files) -> None:
    """Keep the numbers of the source's Runs from those that are accepted from now on."""
    ((newest,),) = source.select("runs", "SELECT coalesce(max(number), 0) FROM runs") or ((0,),)
    await connection.execute(_RESERVE, (newest,))


async def _write_ended(
    connection: Connection, source: Files, kind: Kind, keys: Sequence[Any]
) -> None:
    more = _more(source, keys)
    sizes = _by_key(source.select("runs", _SIZES.format(marks=_marks(keys)), keys))
    offset, now = source.offset("runs"), time.time()
    numbers = await _numbers(connection, [row[0] for row in more.values()])
    rows = []
    for row in source.rows(kind, _ENDED, keys):
        number, stamp, attempt, *_ = more[row[0]]
        kept = min(now, float(stamp) + offset) if isinstance(stamp, int | float) else now
        size = sizes.get(row[0], (0,))[0]
        accepted_at = row[7]
        beginning = (numbers[number], secrets.randbits(62))
        ending = ("ended", None, 0, 0, None, None, accepted_at, attempt, 0, False, kept)
        rows.append((*beginning, *row, size, *ending))
    await copy_rows(connection, "runs", ", ".join(_COLUMNS), _TYPES, rows)
    await _write_events(connection, source, kind, keys, more, numbers)


async def _write_unfinished(
    connection: Connection, source: Files, kind: Kind, keys: Sequence[Any]
) -> None:
    """A Run that waits for a signal waits on. Others are queued again: a node claims them as it
    does those of a dead one, and ends what cannot go on."""
    specs = _going_on(source)
    more = _more(source, keys)
    sizes = _by_key(source.select("runs", _SIZES.format(marks=_marks(keys)), keys))
    numbers = await _numbers(connection, [row[0] for row in more.values()])
    positions = await fetch_all(connection, _POSITIONS, (len(keys),))
    now, rows = time.time(), []
    lanes = dict.fromkeys(row[1] for row in source.rows(kind, _UNFINISHED, keys))
    for lane in lanes:
        await connection.execute(_LOCK_LANE, (lane,))
    for row, (position,) in zip(source.rows(kind, _UNFINISHED, keys), positions, strict=True):
        number, _, attempt, status, started_at, last_seq = more[row[0]]
        spec, lost = specs.get(row[0], (None, 1))
        waits = spec is not None and status == RunStatus.WAITING
        if not waits and status != RunStatus.QUEUED:
            lost += 1
        depth = 0 if spec is None else min(spec[0].session_key.depth, DEEPEST)
        parent = data(spec[0].parent) if spec is not None and spec[0].parent else None
        rows.append(
            (
                numbers[number],
                secrets.randbits(62),
                *row,
                "waiting" if waits else "queued",
                started_at,
                None,
                last_seq,
                sizes.get(row[0], (0,))[0],
                "waiting" if waits else "queued",
                row[1],
                position,
                depth,
                parent,
                None if spec is None else spec[1],
                now,
                # An attempt of one that may have begun is not the first.
                max(attempt, 1),
                lost,
                not waits,
                None,
            )
        )
    await copy_rows(connection, "runs", ", ".join(_COLUMNS), _TYPES, rows)
    await _write_events(connection, source, kind, keys, more, numbers)
    for lane in lanes:
        await connection.execute(_SETTLE_LANE, (lane,))


async def _write_events(
    connection: Connection,
    source: Files,
    kind: Kind,
    keys: Sequence[Any],
    more: Mapping[bytes, Sequence[Any]],
    numbers: Mapping[int, int],
) -> None:
    def renumbered() -> Iterator[Sequence[object]]:
        for run_id, *columns in source.rows(kind, _EVENTS, keys):
            yield numbers[more[run_id][0]], *columns

    await copy_rows(connection, "events", _EVENT_COLUMNS, _EVENT_TYPES, renumbered())


def _going_on(source: Files) -> dict[bytes, tuple[tuple[RunSpec, bytes], int]]:
    """The specs of the Runs that can go on, and how many processes died with each. A sub-agent
    goes on for a Run that does."""
    found: dict[bytes, tuple[tuple[RunSpec, bytes], int]] = {}
    for key, lost, body in source.select("runs", _SPECS):
        try:
            spec = decode_spec(body)
        except Undecodable:
            continue  # A Gateway ends such a Run at its start, too.
        found[data(text(key))] = ((spec, body), lost)

    def goes_on(key: bytes) -> bool:
        if key not in found:
            return False
        parent = found[key][0][0].parent
        return not parent or goes_on(data(parent))

    return {key: value for key, value in found.items() if goes_on(key)}


async def _numbers(connection: Connection, wanted: Sequence[int]) -> dict[int, int]:
    """The numbers that Runs get: their own, by which cursors name them, unless others have them."""
    taken = {number for (number,) in await fetch_all(connection, _TAKEN, (list(wanted),))}
    if not taken:
        return {number: number for number in wanted}
    new = await fetch_all(connection, _NUMBERS, (len(wanted),))
    return dict(zip(sorted(wanted), sorted(number for (number,) in new), strict=True))


def _more(source: Files, keys: Sequence[Any]) -> dict[bytes, Sequence[Any]]:
    return _by_key(source.select("runs", _MORE.format(marks=_marks(keys)), keys))


def _by_key(rows: Sequence[Sequence[Any]]) -> dict[bytes, Sequence[Any]]:
    return {data(text(key)): columns for key, *columns in rows}


def _marks(keys: Sequence[Any]) -> str:
    return ", ".join("?" * len(keys))


def kinds(source: Files, keep_seconds: float) -> tuple[Kind, ...]:
    """`keep_seconds`: for how long a Run is known after its end."""
    since = time.time() - keep_seconds - source.offset("runs")
    kept = f"ended_at IS NOT NULL AND coalesce(kept_from, 0) >= {since!r}"
    return (
        Kind(
            "ended runs",
            "runs",
            f"SELECT id FROM runs WHERE {kept} ORDER BY number",  # noqa: S608 - our own number
            (_ENDED, _EVENTS),
            _write_ended,
        ),
        Kind(
            "unfinished runs",
            "runs",
            "SELECT id FROM runs WHERE ended_at IS NULL ORDER BY number",
            (_UNFINISHED, _EVENTS),
            _write_unfinished,
            passed="""
                SELECT id FROM runs WHERE id = ANY(%(keys)s::bytea[])
                    AND (claimed_at IS NOT NULL OR state = 'ended')""",
        ),
    )
