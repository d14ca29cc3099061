"""The copy: what is to be copied, copying it, and the comparison at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .....domain.errors import StoreFailed
from ..columns import data
from ..database import Connection, Database, fetch_all
from .parts import Kind, batches, digests_there
from .runs import kinds as kinds_of_runs
from .runs import reserve_numbers
from .sessions import KINDS
from .source import Source

_COMPARED = 100
"""Units that are compared with one query for each of their tables."""
_COPIED = 20
"""Units that are copied in one transaction."""
_CONFLICT = "23"
"""The class of SQLSTATE for constraints."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is copied, how many of them are, and how many there are."""


@dataclass(slots=True)
class Comparison:
    """The units of one kind in the source. `there`: those that the database has already, `missing`:
    that are to be copied, by their keys in the source; `different`: that are there with another
    content; `unreadable`: that cannot be copied, and why."""

    kind: Kind
    total: int = 0
    there: int = 0
    missing: list[Any] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


class Import:
    """A copy of `source` into `database`, which is open; None: one without tables, where all of it
    is missing. `keep_seconds`: for how long a Run is known after its end."""

    def __init__(self, source: Source, database: Database | None, keep_seconds: float) -> None:
        self._source = source
        self._database = database
        self._kinds = (*KINDS, *kinds_of_runs(source, keep_seconds))

    async def compare(self) -> list[Comparison]:
        """Raises StoreFailed."""
        return [await self._compare(kind) for kind in self._kinds]

    async def copy(self, compared: Sequence[Comparison], on_progress: OnProgress) -> None:
        """Copy what is missing. What a transaction has copied stays when a later one fails. Raises
        StoreFailed, naming what was being copied."""
        database = self._database
        if database is None:
            raise StoreFailed("There is no database to copy to.")
        if any(one.missing and one.kind.file == "runs" for one in compared):
            await database.change(partial(reserve_numbers, source=self._source))
        for one in compared:
            done = 0
            for keys in batches(one.missing, _COPIED):
                await self._copy(database, one, keys)
                done += len(keys)
                on_progress(one.kind.name, done, len(one.missing))

    async def _copy(self, database: Database, one: Comparison, keys: Sequence[Any]) -> None:
        """Copy some units. One that violates a constraint, such as a run whose id another session
        has there, is noted as unreadable."""
        try:
            await database.change(partial(self._write, one.kind, keys))
        except StoreFailed as error:
            state = getattr(error.__cause__, "sqlstate", None) or ""
            if not state.startswith(_CONFLICT):
                names = f"{name_of(keys[0])} to {name_of(keys[-1])}"
                problem = f"The {one.kind.name} {names} were not copied: {error.message}"
                raise StoreFailed(problem) from error
            if len(keys) == 1:
                one.unreadable[name_of(keys[0])] = error.message
                return
            for key in keys:
                await self._copy(database, one, (key,))

    async def _write(self, kind: Kind, keys: Sequence[Any], connection: Connection) -> None:
        await kind.write(connection, self._source, kind, keys)

    async def _compare(self, kind: Kind) -> Comparison:
        keys = self._source.keys(kind)
        found = Comparison(kind, len(keys))
        for some in batches(keys, _COMPARED):
            here = self._source.digests(kind, some)
            digests = here.finished()
            there, passed = await self._there(kind, list(map(_data, some)))
            for key in some:
                unit = _data(key)
                if unit in here.unreadable:
                    found.unreadable[name_of(key)] = here.unreadable[unit]
                elif unit in passed or there.get(unit) == digests[unit]:
                    found.there += 1
                elif unit in there:
                    found.different.append(name_of(key))
                else:
                    found.missing.append(key)
        return found

    async def _there(
        self, kind: Kind, keys: Sequence[bytes]
    ) -> tuple[dict[bytes, bytes], set[bytes]]:
        """The digests in the database, and the keys of what is in a later state."""
        if self._database is None:
            return {}, set()

        async def read(connection: Connection) -> tuple[dict[bytes, bytes], set[bytes]]:
            passed: set[bytes] = set()
            if kind.passed:
                rows = await fetch_all(connection, kind.passed, {"keys": list(keys)})
                passed = {key for (key,) in rows}
            return await digests_there(connection, kind, keys), passed

        return await self._database.snapshot(read)


def name_of(key: Any) -> str:
    """The key of a unit, for people."""
    return key if isinstance(key, str) else bytes(key).decode("utf-8", "replace")


def _data(key: Any) -> bytes:
    return data(key) if isinstance(key, str) else bytes(key)
