"""Detection of damaged SQLite databases."""

from __future__ import annotations

import sqlite3

from ....domain.errors import StoreFailed

_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Damaged(sqlite3.DatabaseError):
    """The content of a database is not what was written to it."""


class StoreDamaged(StoreFailed):
    """A database cannot be opened because it is damaged."""


def is_damage(error: BaseException | None) -> bool:
    """Whether the error is about the file's content, rather than about the disk or a lock."""
    code = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, Damaged) or (code & 0xFF) in _CODES


def check_tables(connection: sqlite3.Connection) -> None:
    """Read the first page of each table, which detects most truncated or overwritten files.

    Raises sqlite3.Error.
    """
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        connection.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone()  # noqa: S608 - own names


def check_all(connection: sqlite3.Connection) -> None:
    """Check the whole database. Raises Damaged, or sqlite3.Error if it cannot be read."""
    found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    if found != ["ok"]:
        raise Damaged("; ".join(" ".join(line.split()) for line in found))
