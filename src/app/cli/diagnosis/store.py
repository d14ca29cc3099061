"""Checks of the databases, which are only read; a Gateway may be running."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ....adapters.persistence.sqlite.set_aside import put_aside
from . import Finding

if TYPE_CHECKING:
    from ....domain.settings import StoreSettings

_BUSY_SECONDS = 2.0
_ADVICE = (
    "Stop the Gateway, keep a copy of the file with its -wal and -shm, and restore a backup; "
    "or recover what is legible with `sqlite3 FILE .recover`."
)


def stores(state_dir: Path, settings: StoreSettings) -> Iterator[Finding]:
    """Damaged databases, and those that were put aside because of damage."""
    paths = sorted(state_dir.glob("*.sqlite3"))
    if not settings.memory and settings.path:
        kept = Path(settings.path)
        paths = list(dict.fromkeys([kept, *kept.parent.glob("runs.sqlite3"), *paths]))
    for aside in {path.parent: put_aside(path.parent) for path in paths}.values():
        for path in aside:
            yield Finding(
                "store_put_aside",
                f"A damaged run log was put aside as {path}, and a new one has begun.",
                "Look into the disk and the log for the reason, then delete the file with its -wal"
                " and -shm. No conversation is lost by that.",
            )
    for path in paths:
        problem = _problem(path) if path.is_file() else None
        if problem is not None:
            yield Finding("store_damaged", f"The database {path} is damaged: {problem}", _ADVICE)


def _problem(path: Path) -> str | None:
    try:
        return _checked(path)
    except sqlite3.DatabaseError as error:
        # A database in use is not a damaged one.
        busy = error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
        return None if busy else str(error)


def _checked(path: Path) -> str | None:
    """The findings of SQLite; None if there are none."""
    address = f"file:{quote(str(path))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)) as database:
        found = [str(row[0]) for row in database.execute("PRAGMA quick_check(5)")]
    return None if found == ["ok"] else "; ".join(found)
