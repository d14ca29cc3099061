"""What a session catalog changes in PostgreSQL, as functions of a connection in a transaction.

Whoever changes something about a one-off session has made it a lasting one.
"""

from __future__ import annotations

from collections.abc import Mapping

from .....domain.errors import InvalidRequest
from .....domain.sessions import OWNER, SessionInfo, SessionKey
from ...common import Cells, DamageLog, encode_settings
from ..columns import data, optional_data, searchable
from ..database import Connection, fetch_one
from .catalog import ONE, info_of
from .open_turns import move_open_turns
from .transcripts import Current, begin, begin_copy, begin_session, find_current, renew

Changes = Mapping[str, str | bool | int | None]

_SET = """
    UPDATE sessions SET settings = %s, label = %s, search_label = %s, spawned_by = %s,
        one_off = false
    WHERE id = %s"""
_LOCK_LABEL = """
    SELECT pg_advisory_xact_lock(
        hashtextextended('opensoul label ' || current_schema() || encode(%s, 'hex'), 0))"""
_HAS_LABEL = "SELECT 1 FROM sessions WHERE label = %s AND key <> %s LIMIT 1"
_FIRST_KEPT = """
    SELECT min(number) FROM messages WHERE transcript = %s AND number > %s AND role = 'user'"""
_DELETE_OPEN = "DELETE FROM open_turns WHERE key = %s"
_DELETE = "DELETE FROM sessions WHERE key = %s"


async def patch_session(
    connection: Connection,
    key: SessionKey,
    changes: Changes,
    at: float,
    new_id: str,
    damage: DamageLog,
) -> SessionInfo:
    """SessionCatalog.patch."""
    current = await find_current(connection, key)
    if current is None:
        current = await begin_session(connection, key, new_id, at)
    if OWNER in changes and current.session_id != new_id:
        # Another process has begun the session since it was found missing, and it stays its
        # owner's.
        changes = {name: value for name, value in changes.items() if name != OWNER}
    had = Cells(str(key), damage).settings("settings", current.settings)
    merged = {**had, **changes}
    settings = {name: value for name, value in merged.items() if value is not None}
    label, parent = _named(settings, "label"), _named(settings, "spawnedBy")
    if label is not None and "label" in changes:
        await _check_label(connection, key, label)
    columns = (
        encode_settings(settings) if settings else None,
        optional_data(label),
        None if label is None else searchable(label),
        optional_data(parent),
    )
    await connection.execute(_SET, (*columns, current.session))
    return await _found(connection, key, damage)


async def _check_label(connection: Connection, key: SessionKey, label: str) -> None:
    """Raise InvalidRequest if another process has given the label to another session since the
    caller has found it free."""
    await connection.execute(_LOCK_LABEL, (data(label),))
    # A statement of its own, so that it sees what was committed while the first one waited.
    if await fetch_one(connection, _HAS_LABEL, (data(label), data(str(key)))) is not None:
        raise InvalidRequest(f"label already in use: {label}", param="label")


async def reset_session(
    connection: Connection, key: SessionKey, at: float, new_id: str, damage: DamageLog
) -> SessionInfo:
    """SessionCatalog.reset."""
    current = await find_current(connection, key)
    if current is None:
        await begin_session(connection, key, new_id, at)
    else:
        await begin(connection, current.session, new_id, at)
        await renew(connection, current.session, at)
    return await _found(connection, key, damage)


async def compact_session(
    connection: Connection,
    key: SessionKey,
    keep: int,
    at: float,
    new_id: str,
    damage: DamageLog,
) -> tuple[SessionInfo, int] | None:
    """SessionCatalog.compact."""
    current = await find_current(connection, key)
    if current is None:
        return None
    left = await _left_behind(connection, current, keep)
    if left:
        await _go_on_with(connection, key, current, left, current.messages, at, new_id)
    return await _found(connection, key, damage), current.messages - left


async def branch_session(
    connection: Connection,
    key: SessionKey,
    through: int,
    at: float,
    new_id: str,
    damage: DamageLog,
) -> SessionInfo | None:
    """SessionCatalog.branch."""
    current = await find_current(connection, key)
    if current is None:
        return None
    count = max(0, min(through, current.messages))
    await _go_on_with(connection, key, current, 0, count, at, new_id)
    return await _found(connection, key, damage)


async def delete_session(connection: Connection, key: SessionKey) -> bool:
    """SessionCatalog.delete; all that belongs to the session goes with it."""
    await find_current(connection, key)
    await connection.execute(_DELETE_OPEN, (data(str(key)),))
    return (await connection.execute(_DELETE, (data(str(key)),))).rowcount > 0


async def _go_on_with(
    connection: Connection,
    key: SessionKey,
    current: Current,
    left: int,
    through: int,
    at: float,
    new_id: str,
) -> None:
    """Begin a transcript with copies of the current one's messages behind `left` up to `through`.
    Runs that wait, and so have open turns, go on in it."""
    await begin_copy(connection, current, left, through, at, new_id)
    await renew(connection, current.session, at)
    await move_open_turns(connection, key, current.session_id, new_id)


async def _left_behind(connection: Connection, current: Current, keep: int) -> int:
    """How many messages are too old, or stand before the first question that is not."""
    oldest = current.messages - max(0, min(keep, current.messages))
    row = await fetch_one(connection, _FIRST_KEPT, (current.transcript, oldest))
    return current.messages if row is None or row[0] is None else row[0] - 1


def _named(settings: Mapping[str, str | bool | int], name: str) -> str | None:
    """A setting that sessions are listed by."""
    value = settings.get(name)
    return value if isinstance(value, str) else None


async def _found(connection: Connection, key: SessionKey, damage: DamageLog) -> SessionInfo:
    row = await fetch_one(connection, ONE, (data(str(key)),))
    assert row is not None  # noqa: S101 - it was there, or was begun, in this transaction
    return info_of(row, damage)
