"""The databases of a state directory, as the source of a copy."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from .....domain.errors import StoreFailed
from ...sqlite.keys import KEYS, KEYS_FILE
from ...sqlite.runs import RUNS
from ...sqlite.schema import SESSIONS, close_database, open_database, open_reader
from ...sqlite.schema import Kind as FileKind
from .parts import Digests, Kind, Part, Row

_FILES: Mapping[str, FileKind] = {"sessions": SESSIONS, "runs": RUNS, "keys": KEYS}
# What is kept is stamped by a clock that never jumps; these are its distance from Unix time.
_SESSIONS_OFFSET = """
    SELECT unix - stamp FROM expiry UNION ALL
    SELECT * FROM (SELECT created_at - kept_from FROM sessions WHERE one_off = 1
        ORDER BY kept_from DESC LIMIT 1) LIMIT 1"""
_RUNS_OFFSET = """
    SELECT ended_at - kept_from FROM runs WHERE kept_from IS NOT NULL AND ended_at IS NOT NULL
    ORDER BY kept_from DESC LIMIT 1"""


class Source:
    """The files of a state directory whose lock the caller holds. `sessions`: the path of the
    sessions' file; the others are beside it, the keys in the state directory."""

    def __init__(self, sessions: Path, state_dir: Path) -> None:
        self._paths = {
            "sessions": sessions,
            "runs": sessions.with_name("runs.sqlite3"),
            "keys": state_dir / KEYS_FILE,
        }
        self._open = ExitStack()
        self._connections: dict[str, sqlite3.Connection] = {}

    def __enter__(self) -> Source:
        """Bring the files to this version's schema, as the start of a Gateway does, and open them
        for reading. Raises StoreFailed."""
        present = {name: path for name, path in self._paths.items() if path.exists()}
        if not present:
            raise StoreFailed(f"There is no database of a Gateway at {self._paths['sessions']}.")
        for name, path in present.items():
            close_database(open_database(path, kind=_FILES[name]))
            connection = self._open.enter_context(closing(open_reader(path)))
            connection.create_function("sha256", 1, _sha256, deterministic=True)
            self._connections[name] = connection
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def select(self, file: str, query: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows; none where there is no such file. Raises StoreFailed."""
        connection = self._connections.get(file)
        try:
            return [] if connection is None else connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._paths[file]} cannot be read: {error}.") from error

    def keys(self, kind: Kind) -> list[Any]:
        return [key for (key,) in self.select(kind.file, kind.keys)]

    def digests(self, kind: Kind, keys: Sequence[Any]) -> Digests:
        digests = Digests()
        for part in kind.parts:
            query = part.sqlite(len(keys), digests=True)
            digests.add(part, self.select(kind.file, query, keys))
        return digests

    def rows(self, kind: Kind, part: Part, keys: Sequence[Any]) -> Iterator[Row]:
        """The rows of units, as PostgreSQL gets them, one after the other."""
        connection = self._connections[kind.file]
        with closing(connection.execute(part.sqlite(len(keys), digests=False), keys)) as rows:
            yield from map(part.converted, rows)

    def offset(self, file: str) -> float:
        """What to add to the times from which something is kept, for Unix time."""
        query = _RUNS_OFFSET if file == "runs" else _SESSIONS_OFFSET
        found = self.select(file, query)
        value = found[0][0] if found else 0.0
        return float(value) if isinstance(value, int | float) else 0.0


def _sha256(value: object) -> bytes | None:
    if value is None:
        return None
    content = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return hashlib.sha256(content).digest()  # type: ignore[arg-type]  # a damaged cell is refused
