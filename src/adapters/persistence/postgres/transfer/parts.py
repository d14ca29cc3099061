"""The units of a copy: which rows they are in both databases, and the digests that compare them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from ..columns import data
from ..database import Connection, fetch_all

Row = tuple[Any, ...]


class Unreadable(ValueError):
    """A value that the database cannot have in its column."""


def _bytes(value: object) -> object:
    if isinstance(value, str):
        return data(value)
    if isinstance(value, bytes):
        return value
    raise Unreadable("is neither text nor bytes")


def _float(value: object) -> object:
    if isinstance(value, int | float):
        return float(value)
    raise Unreadable("is no number")


def _int(value: object) -> object:
    if isinstance(value, int):
        return int(value)
    raise Unreadable("is no whole number")


def _flag(value: object) -> object:
    if value in (0, 1):
        return bool(value)
    raise Unreadable("is neither 0 nor 1")


def _text(value: object) -> object:
    if isinstance(value, str) and "\0" not in value:
        return value
    raise Unreadable("is no text")


_KINDS: Mapping[str, tuple[Callable[[object], object], str]] = {
    "bytes": (_bytes, "bytea"),
    "body": (_bytes, "bytea"),
    "float": (_float, "float8"),
    "int": (_int, "int8"),
    "int4": (_int, "int4"),
    "flag": (_flag, "bool"),
    "text": (_text, "text"),
    "owner": (_int, "int8"),
}
"""How a value is made that PostgreSQL gets, and its type there. `body`: a large one, which is
compared by its digest. `owner`: the id of a row that gets another one, which is compared by its
place among the others."""


@dataclass(frozen=True, slots=True)
class Column:
    """`expression` in both databases, unless PostgreSQL has another one. `name`: of the column
    there. `check` raises ValueError for a value that stores could not read."""

    expression: str
    kind: str = "bytes"
    nullable: bool = False
    postgres: str = ""
    name: str = ""
    check: Callable[[Any], object] | None = None

    @property
    def target(self) -> str:
        return self.name or (self.postgres or self.expression).rpartition(".")[2]

    @property
    def type(self) -> str:
        """In PostgreSQL."""
        return _KINDS[self.kind][1]

    def convert(self, value: object) -> object:
        """Raises Unreadable."""
        if value is None and self.nullable:
            return None
        try:
            converted = _KINDS[self.kind][0](value)
            if self.check is not None:
                self.check(converted)
        except ValueError as error:
            raise Unreadable(f"{self.target} {error}") from None
        return converted


@dataclass(frozen=True)
class Part:
    """Rows of a table. The first column has the key of the unit that they belong to.

    `rows`: FROM to ORDER BY, with `{keys}` for the condition; `postgres`: the same there, where it
    differs.
    """

    table: str
    columns: tuple[Column, ...]
    rows: str
    postgres: str = ""

    @cached_property
    def names(self) -> str:
        return ", ".join(column.target for column in self.columns)

    @cached_property
    def types(self) -> tuple[str, ...]:
        return tuple(column.type for column in self.columns)

    def sqlite(self, count: int, *, digests: bool) -> str:
        """The query for the rows of so many units."""
        expressions = [_expression(column, column.expression, digests) for column in self.columns]
        keys = f"{self.columns[0].expression} IN ({', '.join('?' * count)})"
        return f"SELECT {', '.join(expressions)} {self.rows.format(keys=keys)}"

    @cached_property
    def digests_there(self) -> str:
        expressions = [
            _expression(column, column.postgres or column.expression, digests=True)
            for column in self.columns
        ]
        keys = f"{self.columns[0].postgres or self.columns[0].expression} = ANY(%s::bytea[])"
        rows = (self.postgres or self.rows).format(keys=keys)
        return f"SELECT {', '.join(expressions)} {rows}"

    def converted(self, row: Row) -> Row:
        """Raises Unreadable."""
        return tuple(column.convert(value) for column, value in zip(self.columns, row, strict=True))


def _expression(column: Column, expression: str, digests: bool) -> str:
    return f"sha256({expression})" if digests and column.kind == "body" else expression


class Files(Protocol):
    """The files of a Source."""

    def select(self, file: str, query: str, values: Sequence[object] = ()) -> list[Row]: ...

    def rows(self, kind: Kind, part: Part, keys: Sequence[Any]) -> Iterator[Row]: ...

    def offset(self, file: str) -> float: ...


Write = Callable[[Connection, Files, "Kind", Sequence[Any]], Awaitable[None]]
"""Copies units, by their keys in SQLite, inside a transaction."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Units of one kind. `name`: of several, for people. `file`: that they are in; `keys`: a query
    there for the keys of all. `passed`: a query in PostgreSQL for those of the keys `%(keys)s` that
    are in a later state there, and so are not copied again."""

    name: str
    file: str
    keys: str
    parts: tuple[Part, ...]
    write: Write
    passed: str = ""


class Digests:
    """The digests of units, by their keys."""

    def __init__(self) -> None:
        self._hashes: dict[bytes, Any] = {}
        self.unreadable: dict[bytes, str] = {}

    def add(self, part: Part, rows: Iterable[Row]) -> None:
        places: dict[bytes, dict[object, int]] = {}
        owners = [n for n, column in enumerate(part.columns) if column.kind == "owner"]
        for row in rows:
            key = row[0].encode("utf-8", "surrogatepass") if isinstance(row[0], str) else row[0]
            try:
                values = list(part.converted(row))
            except Unreadable as error:
                self.unreadable.setdefault(key, f"{part.table}: {error}")
                continue
            for n in owners:
                known = places.setdefault(key, {})
                values[n] = known.setdefault(values[n], len(known))
            if key not in self._hashes:
                self._hashes[key] = hashlib.sha256()
            self._hashes[key].update(f"{part.table} {values!r}\n".encode())

    def finished(self) -> dict[bytes, bytes]:
        return {key: made.digest() for key, made in self._hashes.items()}


async def digests_there(
    connection: Connection, kind: Kind, keys: Sequence[bytes]
) -> dict[bytes, bytes]:
    """Of the units that PostgreSQL has."""
    digests = Digests()
    for part in kind.parts:
        digests.add(part, await fetch_all(connection, part.digests_there, (list(keys),)))
    return digests.finished()


async def copy_rows(
    connection: Connection,
    table: str,
    names: str,
    types: Sequence[str],
    rows: Iterable[Sequence[object]],
) -> None:
    """Insert rows, as many as there are, without having all of them in memory."""
    statement = f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)"
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            await copy.write_row(row)


async def copy_units(
    connection: Connection, source: Files, kind: Kind, keys: Sequence[Any]
) -> None:
    """A Write for tables that are the same in both databases."""
    for part in kind.parts:
        rows = source.rows(kind, part, keys)
        await copy_rows(connection, part.table, part.names, part.types, rows)


def batches(keys: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
