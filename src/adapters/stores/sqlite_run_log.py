"""The events of Runs in one SQLite file, and in memory for as long as they are news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...domain.errors import StoreFailed
from ...domain.ports import Clock
from ...domain.run_records import RunPage, RunQuery, RunRecord, RunStatus
from ...domain.runs import EventSpan, RunEvent
from .run_log_events import HeldEvents
from .run_log_live import BOUNDS, Bounds, LiveRuns
from .run_log_pages import page_of
from .sqlite_damage import DamageLog
from .sqlite_readers import Readers
from .sqlite_run_log_follow import KeptEvents
from .sqlite_run_log_keeper import Keeper
from .sqlite_run_log_kept import KeptLog
from .sqlite_run_log_pruner import Pruner
from .sqlite_run_log_reads import list_runs, read_contents, read_run
from .sqlite_run_log_reservations import Reservations
from .sqlite_run_log_schema import RUNS
from .sqlite_schema import open_database
from .sqlite_writer import GroupWriter

_NAME = RUNS.name


@dataclass(frozen=True, slots=True)
class _Opened:
    writer: GroupWriter
    readers: Readers
    keeper: Keeper
    pruner: Pruner
    reservations: Reservations


class SqliteRunLog:
    """A RunLog. The caller makes sure that no other process uses the file.

    What was added is on the disk after about `interval` seconds, and sooner where somebody waits
    for it; it then survives `kill -9`. `bounds` is for memory, and for the events of one Run also
    in the file. A Run is known for `keep_seconds` after its end (`clock` tells Unix time); its
    events may go sooner where all of them take more than about `keep_bytes` in the file. What
    cannot be written stays in memory, is tried again, and is logged.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Clock,
        interval: float = 0.1,
        keep_seconds: float = 86_400.0,
        keep_bytes: int = 256 * 1024 * 1024,
        bounds: Bounds = BOUNDS,
        readers: int = 2,
    ) -> None:
        self._path = Path(path).absolute()
        self._clock = clock
        self._interval = interval
        self._keep_seconds = keep_seconds
        self._keep_bytes = keep_bytes
        self._reader_count = readers
        self._damage = DamageLog()
        self._live = LiveRuns(self._make_log, clock, bounds)
        self._next_number = 1
        self._earlier: tuple[KeptLog, ...] = ()
        self._opened: _Opened | None = None

    async def start(self) -> None:
        """Raises StoreFailed naming the file when it is damaged, not ours, or too new."""
        connection = await asyncio.to_thread(open_database, self._path, kind=RUNS)
        readers = Readers(self._path, self._reader_count, _NAME)
        try:
            contents = await readers.run(partial(read_contents, damage=self._damage))
        except BaseException:
            readers.close()
            connection.close()
            raise
        self._next_number = contents.next_number
        self._earlier = tuple(self._restore(*numbered) for numbered in contents.unfinished)
        writer = GroupWriter(connection, _NAME)
        pruner = Pruner(
            writer,
            self._clock,
            keep_seconds=self._keep_seconds,
            max_bytes=self._keep_bytes,
            size=contents.size,
        )
        keeper = Keeper(writer, interval=self._interval, held=self._live.get, on_kept=pruner.add)
        reservations = Reservations(self._live, writer, self._held)
        self._opened = _Opened(writer, readers, keeper, pruner, reservations)
        pruner.prune()

    async def reserve(self, record: RunRecord) -> RunRecord | None:
        return await self._require().reservations.reserve(record)

    async def release(self, run_id: str) -> None:
        """Nothing happens where the Run was begun."""
        reservations = self._require().reservations
        log = await reservations.settled(run_id)
        if log is not None and not log.opened:
            await reservations.release(log)

    def open(self, record: RunRecord) -> None:
        """Raises ValueError when the Run has a log already."""
        keeper = self._require().keeper
        reserved = self._live.get(record.id)
        as_kept = reserved is not None and reserved.begun == record
        log = self._live.open(record)
        if not as_kept:
            log.known, log.told = False, None
            keeper.note(log)

    def append(self, run_id: str, *events: RunEvent) -> int:
        """Raises UnknownRun for one that was never opened, or is forgotten."""
        log = self._live.append(run_id, events)
        if not log.dirty or log.kept_waiters or log.finished:  # Else it is waited for already.
            self._require().keeper.note(log)
        return log.last

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventSpan]:
        """Raises UnknownRun at once, EventsExpired at the event that is gone."""
        return HeldEvents(self._live.find(run_id), max(after, 0))

    def follow_kept(self, run_id: str, after: int = 0) -> AsyncIterator[EventSpan]:
        """Raises StoreFailed when what was added cannot be kept."""
        opened = self._require()
        return KeptEvents(
            run_id,
            max(after, 0),
            held=self._held,
            keeper=opened.keeper,
            readers=opened.readers,
        )

    async def find(self, run_id: str) -> RunRecord | None:
        opened = self._require()
        log = await opened.reservations.settled(run_id)
        if log is not None:
            return log.record
        return await opened.readers.run(partial(read_run, run_id=run_id, damage=self._damage))

    async def list(self, query: RunQuery) -> RunPage:
        """A Run that has not ended is in memory; of those there, the file may know less."""
        opened = self._require()
        held = {log.run_id: log for log in [*opened.keeper.unkept.values(), *self._live]}
        known = {run_id: log.record for run_id, log in held.items() if log.claim is None}
        kept: list[RunRecord] = []
        if query.status not in (RunStatus.QUEUED, RunStatus.RUNNING):
            limit = query.limit + 1 + len(held)
            listing = partial(list_runs, query=query, limit=limit, damage=self._damage)
            kept = await opened.readers.run(listing)
        others = [record for record in kept if record.id not in known]
        return page_of([*known.values(), *others], query)

    async def unfinished(self) -> tuple[RunRecord, ...]:
        return tuple(log.record for log in self._earlier if not log.finished)

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.pruner.close()
            await opened.keeper.close()
            for log in self._live:
                log.disappoint("The run log is closed.")
            await asyncio.to_thread(opened.readers.close)
            await opened.writer.close()

    def _make_log(self, record: RunRecord) -> KeptLog:
        self._next_number += 1
        return KeptLog(record, number=self._next_number - 1)

    def _restore(self, number: int, record: RunRecord) -> KeptLog:
        """A Run of an earlier process that has no end: it can be ended, and is listed."""
        log = self._live.add(record)
        log.number, log.opened, log.known = number, True, True
        log.last = log.taken = log.kept = record.last_seq
        log.trimmed = log.first
        log.status = log.told = record.status
        log.started_at = record.started_at
        return log

    def _held(self, run_id: str) -> KeptLog | None:
        """The Run where it is in memory: what memory gave up may not be in the file yet."""
        opened = self._opened
        unkept = None if opened is None else opened.keeper.unkept.get(run_id)
        return unkept or self._live.get(run_id)

    def _require(self) -> _Opened:
        if self._opened is None:
            raise StoreFailed("The run log is not open.")
        return self._opened
