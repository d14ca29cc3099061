"""What SQLite's columns hold, and how several queries see one moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ..common import MAX_INTEGER, Undecodable


def column(text: str) -> str | bytes:
    """The text, or where it has no UTF-8 (lone surrogates) bytes that stand for it alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def text(column: str | bytes) -> str:
    """The text that `column` made into this. Raises Undecodable."""
    if isinstance(column, str):
        return column
    try:
        return column.decode("utf-8", "surrogatepass")
    except (AttributeError, UnicodeDecodeError):
        raise Undecodable("a stored text is not UTF-8") from None


def text_or_bytes(value: bytes) -> str | bytes:
    """For `Connection.text_factory`: a text that is no UTF-8 would fail the whole query."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def bounded(number: int) -> int:
    """The number within what LIMIT understands as a limit: below 0 means none to SQLite."""
    return max(0, min(number, MAX_INTEGER))


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is read inside is of the same moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()  # Ends the read, also where SQLite has ended it by itself.
