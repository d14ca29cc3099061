"""Devices in PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from ....domain.access.devices import DeviceState
from ....domain.errors import StoreFailed
from .database import Database

_NEWER = "SELECT version, body FROM device_book WHERE version <> %s"
_SAVE = """
    INSERT INTO device_book AS book
    SELECT true, %(version)s::bigint + 1, %(body)s::bytea
    WHERE %(version)s = 0 OR EXISTS (SELECT FROM device_book)
    ON CONFLICT (one) DO UPDATE SET version = excluded.version, body = excluded.body
        WHERE book.version = %(version)s
    RETURNING version"""


@dataclass(frozen=True, slots=True)
class _Document:
    """Another shape of the records is another version."""

    version: Literal[1]
    devices: DeviceState = field(default_factory=DeviceState)


@cache
def _shape() -> TypeAdapter[_Document]:
    return TypeAdapter(_Document)


class PostgresDevices:
    """A DeviceBook in a Database, which others open and close. It contains the digests of tokens,
    not the tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = 0
        """The version that this process has loaded or saved; 0: there was none."""

    async def load(self) -> DeviceState:
        self._version = 0
        return await self.newer() or DeviceState()

    async def newer(self) -> DeviceState | None:
        row = await self._database.row(_NEWER, (self._version,))
        if row is None:
            return None
        version, body = row
        try:
            devices = _shape().validate_json(body).devices
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, found["loc"])) or "the whole document"
            raise StoreFailed(
                f"The devices in the database cannot be read: {place}: {found['msg']}. Restore the"
                " row of the table device_book, or delete it: then every device has to be paired"
                " again."
            ) from None
        self._version = version
        return devices

    async def save(self, state: DeviceState) -> bool:
        values = {"version": self._version, "body": _shape().dump_json(_Document(1, state))}
        row = await self._database.change_row(_SAVE, values)
        if row is None:
            return False
        self._version = row[0]
        return True
