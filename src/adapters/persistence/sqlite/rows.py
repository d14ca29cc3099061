"""Many rows in one statement.

Python gives its interpreter away at every statement and has to wait to get it back, behind an
event loop that is busy: so what waits together is written by few.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, islice

_LARGE = 256 * 1024
"""Bytes of the rows of one statement."""
AT_ONCE = 32
"""Rows of one statement at most: SQLite keeps the statements that it was given, a few dozens."""


def insert_rows(
    connection: sqlite3.Connection,
    insert: str,
    rows: Iterable[Sequence[object]],
    behind: str = "",
) -> None:
    """Run `INSERT ... VALUES` with many rows at a time; `behind` follows the rows."""
    left = iter(rows)
    while some := list(islice(left, AT_ONCE)):
        values = tuple(chain.from_iterable(some))
        if sum(len(value) for value in values if isinstance(value, bytes | str)) < _LARGE:
            _insert(connection, insert, len(some), values, behind)
        else:
            _insert_large(connection, insert, some, behind)


def _insert(
    connection: sqlite3.Connection,
    insert: str,
    count: int,
    values: tuple[object, ...],
    behind: str,
) -> None:
    row = f"({', '.join('?' * (len(values) // count))})"
    connection.execute(f"{insert} {', '.join([row] * count)} {behind}", values)


def _insert_large(
    connection: sqlite3.Connection, insert: str, rows: Sequence[Sequence[object]], behind: str
) -> None:
    """One row after the other, so that SQLite has a copy of one at a time; and nothing at last.

    SQLite keeps what was bound to a statement until something else is, and Python the statement.
    There is no other way to reach these bindings from Python, so nulls are inserted, in vain.
    """
    for row in rows:
        _insert(connection, insert, 1, tuple(row), behind)
    connection.execute("SAVEPOINT unbinding")
    with suppress(sqlite3.IntegrityError):
        _insert(connection, insert, 1, (None,) * len(rows[0]), behind)
    connection.execute("ROLLBACK TO unbinding")
    connection.execute("RELEASE unbinding")
