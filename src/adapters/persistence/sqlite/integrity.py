"""How a damaged SQLite database is recognised."""

from __future__ import annotations

import sqlite3

from ....domain.errors import StoreFailed

_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Damaged(sqlite3.DatabaseError):
    """What is in a database cannot be what was written to it."""


class StoreDamaged(StoreFailed):
    """A database cannot be opened because it is damaged."""


def is_damage(error: BaseException | None) -> bool:
    """Whether the error is about what is in the file, rather than about the disk or a lock."""
    code = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, Damaged) or (code & 0xFF) in _CODES


def check_tables(connection: sqlite3.Connection) -> None:
    """Read the first page of each table: what a file that was cut or overwritten does not stand.

    Raises sqlite3.Error.
    """
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        connection.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone()  # noqa: S608 - own names


def check_all(connection: sqlite3.Connection) -> None:
    """Read the whole database. Raises Damaged, and sqlite3.Error where it cannot be read."""
    found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    if found != ["ok"]:
        raise Damaged("; ".join(" ".join(line.split()) for line in found))
