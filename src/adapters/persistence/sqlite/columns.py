"""Conversion of column values, and consistent reads by several queries."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ..common import MAX_INTEGER


def column(text: str) -> str | bytes:
    """The value to store for a text: the text, or bytes if it has lone surrogates, which UTF-8
    cannot encode. `text` is the inverse."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def text_or_bytes(value: bytes) -> str | bytes:
    """For `Connection.text_factory`: by default, invalid UTF-8 would fail the whole query."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def bounded(number: int) -> int:
    """A valid LIMIT: SQLite treats negative numbers as no limit."""
    return max(0, min(number, MAX_INTEGER))


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """All reads within the context see the same state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()  # Unlike COMMIT, does not fail if SQLite has ended the transaction.
