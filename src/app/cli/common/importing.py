"""The copy of a state directory into the database: its lock, its databases, its devices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ....domain.access.devices import DeviceState
from .database import database_errors, direct_url, url_of
from .errors import CommandError

if TYPE_CHECKING:
    from ....adapters.persistence.postgres.transfer import Comparison, Source
    from ....domain.ports import DeviceBook
    from ....domain.settings import Settings

OnProgress = Callable[[str, int, int], None]
"""Called with what is copied, how many of them are, and how many there are."""
DEVICES = "devices"


@dataclass(slots=True)
class Copied:
    """What there is of one kind. `different`, `unreadable`: what was not copied; `lacking`: what
    the comparison at the end has not found."""

    name: str
    total: int
    there: int
    missing: int
    different: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """`copied`: whether anything was written."""

    kinds: list[Copied]
    copied: bool = False

    @property
    def complete(self) -> bool:
        """Whether the database has all that there is, or would have it."""
        return not any(kind.different or kind.unreadable or kind.lacking for kind in self.kinds)

    def described(self) -> dict[str, object]:
        """The outcome as JSON data."""
        kinds = [
            {
                "name": kind.name,
                "total": kind.total,
                "there": kind.there,
                "copied" if self.copied else "missing": kind.missing,
                "different": kind.different,
                "unreadable": kind.unreadable,
                "lacking": kind.lacking,
            }
            for kind in self.kinds
        ]
        return {"complete": self.complete, "kinds": kinds}


def import_state(
    settings: Settings,
    directory: Path,
    store_name: str,
    *,
    dry_run: bool,
    skip_different: bool,
    on_progress: OnProgress | None,
) -> Outcome:
    """Raises CommandError, also where a process holds the directory."""
    from ....adapters.system.files import StateLock

    store = directory / store_name
    lock = StateLock(directory, store_dirs=(store.resolve().parent,))
    with database_errors():
        from ....adapters.persistence.postgres.transfer import Source

        lock.acquire()
        try:
            with Source(store, directory) as source:
                work = _imported(settings, source, directory, dry_run, skip_different, on_progress)
                return asyncio.run(work)
        finally:
            lock.release()


async def _imported(
    settings: Settings,
    source: Source,
    directory: Path,
    dry_run: bool,
    skip_different: bool,
    on_progress: OnProgress | None,
) -> Outcome:
    from ....adapters.persistence.postgres import Database, PostgresDevices, database_status
    from ....adapters.persistence.postgres.transfer import Import
    from ....adapters.system.files import DeviceFile, MemoryDeviceBook

    url = direct_url(settings.store) or url_of(settings.store)
    file = DeviceFile(directory / "devices.json")
    keep = settings.runs.keep_seconds
    if dry_run and (await database_status(url)).pending:  # It may have no tables yet.
        compared = await Import(source, None, keep).compare()
        return Outcome([*map(_copied, compared), await _devices(file, MemoryDeviceBook())])
    database = Database(url, connections=(1, 2))
    await database.open()
    try:
        copy = Import(source, database, keep)
        compared = await copy.compare()
        book = PostgresDevices(database)
        outcome = Outcome([*map(_copied, compared), await _devices(file, book)])
        if dry_run or not (outcome.complete or skip_different):
            return outcome
        await copy.copy(compared, on_progress or (lambda *_: None))
        if outcome.kinds[-1].missing and not await book.save(await file.load()):
            raise CommandError(
                "A node has changed the devices meanwhile. Repeat the command.", code="conflict"
            )
        outcome.copied = True
        at_end = [
            *map(_copied, await copy.compare()),
            await _devices(file, PostgresDevices(database)),
        ]
        outcome.kinds[:-1] = map(_copied, compared)  # With what did not fit in.
        for kind, now in zip(outcome.kinds, at_end, strict=True):
            _note_lacking(kind, now)
        return outcome
    finally:
        await database.close()


def _copied(found: Comparison) -> Copied:
    return Copied(
        found.kind.name,
        found.total,
        found.there,
        len(found.missing),
        found.different,
        found.unreadable,
    )


async def _devices(file: DeviceBook, book: DeviceBook) -> Copied:
    """The devices are one unit: each change rewrites all of them."""
    here, there = await file.load(), await book.load()
    total = len(here.paired) + len(here.pending)
    if here in (there, DeviceState()):
        return Copied(DEVICES, total, total, 0)
    if there == DeviceState():
        return Copied(DEVICES, total, 0, total)
    return Copied(DEVICES, total, 0, 0, different=sorted({**here.paired, **here.pending}))


def _note_lacking(kind: Copied, at_end: Copied) -> None:
    different = sorted(set(at_end.different) - set(kind.different))
    kind.lacking = [f"{name} (another content)" for name in different]
    lacking = at_end.missing - len(set(kind.unreadable) - set(at_end.unreadable))
    if lacking > 0:
        kind.lacking.append(f"{lacking} that are not there")
