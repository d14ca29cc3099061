"""What a session catalog changes in its SQLite database, inside the caller's transaction.

All of them raise sqlite3.Error, and Undecodable for a damaged message. Whoever changes something
about a one-off session has made it a lasting one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from .....domain.sessions import SessionInfo, SessionKey
from ...common import Cells, DamageLog, encode_settings, text
from ..columns import column
from .catalog import find_session
from .open_turns import delete_open_turns, move_open_turns
from .transcripts import Current, begin, begin_copy, begin_session, find_current

Changes = Mapping[str, str | bool | int | None]

_SET = "UPDATE sessions SET settings = ?, label = ?, spawned_by = ?, one_off = 0 WHERE id = ?"
_RENEWED = "UPDATE sessions SET updated_at = ?, one_off = 0 WHERE id = ?"
_FIRST_KEPT = """
    SELECT min(number) FROM messages
    WHERE transcript = ? AND number > ? AND role = 'user'"""


def patch_session(
    connection: sqlite3.Connection,
    key: SessionKey,
    changes: Changes,
    at: float,
    new_id: str,
    damage: DamageLog,
) -> SessionInfo:
    """SessionCatalog.patch."""
    current = find_current(connection, key)
    if current is None:
        current = begin_session(connection, key, new_id, at, one_off=False)
    # What cannot be read of the settings is gone with this, and the row is whole again; but a send
    # policy that was lost denies until somebody sets it anew.
    had = Cells(str(key), damage).settings("settings", current.settings)
    merged = {**had, **changes}
    settings = {name: value for name, value in merged.items() if value is not None}
    columns = (_named(settings, "label"), _named(settings, "spawnedBy"))
    kept = encode_settings(settings) if settings else None
    connection.execute(_SET, (kept, *columns, current.session))
    return _found(connection, key, damage)


def reset_session(
    connection: sqlite3.Connection, key: SessionKey, at: float, new_id: str, damage: DamageLog
) -> SessionInfo:
    """SessionCatalog.reset."""
    current = find_current(connection, key)
    if current is None:
        begin_session(connection, key, new_id, at, one_off=False)
    else:
        begin(connection, current.session, new_id, at)
        connection.execute(_RENEWED, (at, current.session))
    return _found(connection, key, damage)


def compact_session(
    connection: sqlite3.Connection,
    key: SessionKey,
    keep: int,
    at: float,
    new_id: str,
    damage: DamageLog,
) -> tuple[SessionInfo, int] | None:
    """SessionCatalog.compact."""
    current = find_current(connection, key)
    if current is None:
        return None
    count = current.place.messages
    left = _left_behind(connection, current, keep)
    if left:
        _go_on_with(connection, key, current, left, count, at, new_id)
    return _found(connection, key, damage), count - left


def branch_session(
    connection: sqlite3.Connection,
    key: SessionKey,
    through: int,
    at: float,
    new_id: str,
    damage: DamageLog,
) -> SessionInfo | None:
    """SessionCatalog.branch."""
    current = find_current(connection, key)
    if current is None:
        return None
    count = max(0, min(through, current.place.messages))
    _go_on_with(connection, key, current, 0, count, at, new_id)
    return _found(connection, key, damage)


def _go_on_with(
    connection: sqlite3.Connection,
    key: SessionKey,
    current: Current,
    left: int,
    through: int,
    at: float,
    new_id: str,
) -> None:
    """Begin a transcript with copies of the current one's messages behind `left` up to `through`.
    Runs that wait, and so have open turns, go on in it."""
    begin_copy(connection, current, left, through, at, new_id)
    connection.execute(_RENEWED, (at, current.session))
    move_open_turns(connection, key, text(current.session_id), new_id)


def delete_session(connection: sqlite3.Connection, key: SessionKey) -> bool:
    """SessionCatalog.delete; all that belongs to the session goes with it."""
    delete_open_turns(connection, key)
    deleted = connection.execute("DELETE FROM sessions WHERE key = ?", (column(str(key)),))
    return deleted.rowcount > 0


def _left_behind(connection: sqlite3.Connection, current: Current, keep: int) -> int:
    """How many messages are too old, or stand before the first question that is not."""
    count = current.place.messages
    oldest = count - max(0, min(keep, count))
    (first,) = connection.execute(_FIRST_KEPT, (current.place.transcript, oldest)).fetchone()
    return count if first is None else first - 1


def _named(settings: Mapping[str, str | bool | int], name: str) -> str | bytes | None:
    """A setting that sessions are listed by."""
    value = settings.get(name)
    return column(value) if isinstance(value, str) else None


def _found(connection: sqlite3.Connection, key: SessionKey, damage: DamageLog) -> SessionInfo:
    info = find_session(connection, key, damage)
    assert info is not None  # noqa: S101 - it was there, or was begun, in this transaction
    return info
