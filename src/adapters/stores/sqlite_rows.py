"""Many rows in one statement.

Python gives its interpreter away at every statement and has to wait to get it back, behind an
event loop that is busy: so what waits together is written by few.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain, islice

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
        row = f"({', '.join('?' * len(some[0]))})"
        sql = f"{insert} {', '.join([row] * len(some))} {behind}"
        connection.execute(sql, tuple(chain.from_iterable(some)))
