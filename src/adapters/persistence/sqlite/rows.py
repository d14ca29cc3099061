"""Inserts many rows with one statement.

sqlite3 releases the GIL for every statement and then waits to reacquire it from a busy event loop,
so fewer statements are faster.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, islice

_LARGE = 256 * 1024
"""Bytes of a group of rows from which each row gets its own statement."""
AT_ONCE = 32
"""Maximum rows per statement. sqlite3 caches a few dozen statements, one per number of rows."""


def insert_rows(
    connection: sqlite3.Connection,
    insert: str,
    rows: Iterable[Sequence[object]],
    behind: str = "",
) -> None:
    """Run `INSERT ... VALUES` with many rows per statement; `behind` follows the rows."""
    left = iter(rows)
    while some := list(islice(left, AT_ONCE)):
        values = tuple(chain.from_iterable(some))
        if _size(values) < _LARGE:
            _insert(connection, insert, len(some), values, behind)
        else:
            _insert_large(connection, insert, some, behind)


def _size(values: tuple[object, ...]) -> int:
    """Bytes and characters of the values together."""
    return sum([len(one) for one in values if type(one) is str or type(one) is bytes])


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
    """Insert one row per statement, so that SQLite copies only one row at a time.

    SQLite keeps the bound values until others are bound, and Python caches the statement, so the
    last large row would stay in memory. Python cannot clear the bindings; therefore a row of nulls
    is inserted and rolled back.
    """
    for row in rows:
        _insert(connection, insert, 1, tuple(row), behind)
    connection.execute("SAVEPOINT unbinding")
    with suppress(sqlite3.IntegrityError):
        _insert(connection, insert, 1, (None,) * len(rows[0]), behind)
    connection.execute("ROLLBACK TO unbinding")
    connection.execute("RELEASE unbinding")
