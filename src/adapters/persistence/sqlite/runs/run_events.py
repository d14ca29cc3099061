"""The events of Runs in one SQLite file, and in memory for as long as they are news."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .....domain.errors import StoreFailed
from .....domain.ports import Clock
from .....domain.runs import (
    Claim,
    EventBatch,
    RunEvent,
    RunPage,
    RunQuery,
    RunRecord,
    RunSpec,
    RunStatus,
)
from ...common import (
    BOUNDS,
    Bounds,
    DamageLog,
    ExpiryClock,
    HeldEvents,
    LiveRuns,
    Numbered,
    encode_cursor,
    page_of,
    wake,
)
from ...queue import KeptSpec
from ..files import DatabaseFiles
from ..integrity import check_all
from ..readers import Readers
from ..writer import GroupWriter
from .flusher import Flusher
from .follow import KeptEvents
from .opening import begin_anew, open_run_log
from .persisted import PersistedRun
from .pruner import Pruner
from .reads import list_runs, read_run
from .reservations import Reservations
from .schema import RUNS

_NAME = RUNS.name


@dataclass(frozen=True, slots=True)
class _Opened:
    writer: GroupWriter
    readers: Readers
    keeper: Flusher
    pruner: Pruner
    reservations: Reservations


class SqliteRunEvents:
    """A RunEvents. The caller makes sure that no other process uses the file.

    What was added is on the disk after about `interval` seconds, and sooner where somebody waits
    for it; it then survives `kill -9`. `bounds` is for memory, and for the events of one Run also
    in the file. A Run is known for `keep_seconds` after its end, which `steady` measures, since
    `clock` (Unix time) may jump; its events may go sooner where all of them take more than about
    `keep_bytes` in the file. What cannot be written is tried again and logged: how a Run ended is
    never given up, its other events may be where they take too much memory.
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
        steady: Clock = time.monotonic,
    ) -> None:
        self._path = Path(path).absolute()
        self._clock = clock
        self._steady = steady
        self._interval = interval
        self._keep_seconds = keep_seconds
        self._keep_bytes = keep_bytes
        self._reader_count = readers
        self._damage = DamageLog()
        self._live = LiveRuns(self._make_log, clock, bounds, steady=steady, on_forget=self._give_up)
        self._bytes_waiting = bounds.finished_bytes
        self._next_number = 1
        self._earlier: tuple[PersistedRun, ...] = ()
        self._opened: _Opened | None = None

    async def start(self) -> None:
        """A damaged file is put aside. Raises StoreFailed naming one that is not ours, or too
        new."""
        opened = await asyncio.to_thread(open_run_log, self._path, self._clock, self._damage)
        contents = opened.contents
        self._next_number = contents.next_number
        self._earlier = tuple(
            self._restore(number, record, contents.specs.get(number))
            for number, record in contents.unfinished
        )
        writer = GroupWriter(
            opened.connection,
            _NAME,
            files=opened.files,
            renew=self._renew,
            on_renewed=self._renewed,
        )
        readers = Readers(
            self._path,
            self._reader_count,
            _NAME,
            files=opened.files,
            on_damage=self._look_into_damage,
        )
        expiry = ExpiryClock(self._clock, self._steady)
        expiry.begin(contents.newest)
        expiry.count_away(self._keep_seconds / 2)
        pruner = Pruner(
            writer,
            expiry,
            keep_seconds=self._keep_seconds,
            max_bytes=self._keep_bytes,
            size=contents.size,
        )
        keeper = Flusher(
            writer,
            interval=self._interval,
            held=self._live.get,
            on_kept=pruner.add,
            bytes_waiting=self._bytes_waiting,
            expiry=expiry,
        )
        reservations = Reservations(self._live, writer, self._held)
        self._opened = _Opened(writer, readers, keeper, pruner, reservations)
        pruner.prune()

    async def reserve(self, record: RunRecord, spec: RunSpec | None = None) -> RunRecord | None:
        opened = self._require()
        known = await opened.reservations.settled(record.id)
        if known is not None:
            return known.record
        opened.keeper.check_room()
        return await opened.reservations.reserve(record, spec)

    async def release(self, run_id: str) -> None:
        """Nothing happens where the Run was begun."""
        reservations = self._require().reservations
        log = await reservations.settled(run_id)
        if log is not None and not log.opened:
            await reservations.release(log)

    def open(self, record: RunRecord) -> None:
        """Raises ValueError when the Run has a log already, StoreFailed when too many wait."""
        keeper = self._require().keeper
        keeper.check_room()
        reserved = self._live.get(record.id)
        as_kept = reserved is not None and reserved.begun == record
        log = self._live.open(record)
        if not as_kept:
            log.known, log.written_status, log.spec_taken = False, None, False
            keeper.note(log)

    def lease(self, claim: Claim, until: float) -> None:
        """Written with the Run's next event: a Run that has none is nobody's after a restart."""
        self._live.find(claim.spec.id).lease(claim, until)

    def requeue(self, run_id: str) -> None:
        self._require().keeper.note(self._live.requeue(run_id))

    def keep(self, spec: RunSpec) -> None:
        log = self._live.find(spec.id)
        if log.spec is None:
            log.spec = spec
            self._require().keeper.note(log)

    def hand_back(self, run_id: str) -> bool:
        log = self._live.find(run_id)
        if log.spec is None:
            return False
        self._require().keeper.note(self._live.hand_back(run_id))
        wake(log.kept_waiters)
        return True

    async def ended(self, run_id: str) -> None:
        await self._live.ended(run_id)

    def put(self, run_id: str, *events: RunEvent) -> int:
        """Raises UnknownRun for one that was never opened, or is forgotten."""
        log = self._live.append(run_id, events)
        self._require().keeper.note(log)
        return log.last

    async def append(self, claim: Claim, events: Sequence[RunEvent]) -> int:
        log = self._live.append(claim.spec.id, events, claim)
        if not log.dirty or log.kept_waiters or log.finished:  # Else it is waited for already.
            self._require().keeper.note(log)
        return log.last

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        """Raises UnknownRun at once, EventsExpired at the event that is gone."""
        return HeldEvents(self._live.find(run_id), max(after, 0))

    def follow_kept(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
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
        found = await self._find(run_id)
        return None if found is None else found[1]

    async def which_go_on(self, run_ids: Collection[str]) -> frozenset[str]:
        """Those are in memory, so that few of the others are looked for in the file."""
        found = [await self.find(run_id) for run_id in run_ids]
        return frozenset(
            record.id for record in found if record is not None and not record.status.final
        )

    async def cursor(self, run_id: str) -> str | None:
        found = await self._find(run_id)
        return None if found is None else encode_cursor(found[0])

    async def _find(self, run_id: str) -> Numbered | None:
        opened = self._require()
        log = await opened.reservations.settled(run_id)
        if log is not None:
            return log.number, log.record
        if run_id in opened.reservations.leftover:
            return None
        return await opened.readers.run(partial(read_run, run_id=run_id, damage=self._damage))

    async def list(self, query: RunQuery) -> RunPage:
        """A Run that has not ended is in memory; of those there, the file may know less."""
        opened = self._require()
        known, leftover = self._known(opened), opened.reservations.leftover
        kept: list[Numbered] = []
        if query.status not in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING):
            limit = query.limit + 1 + len(known) + len(leftover)
            listing = partial(list_runs, query=query, limit=limit, damage=self._damage)
            kept = await opened.readers.run(listing)
            known |= self._known(opened)  # Some have gone on meanwhile.
        others = [run for run in kept if run[1].id not in known.keys() | leftover]
        return page_of([*known.values(), *others], query)

    def _known(self, opened: _Opened) -> dict[str, Numbered]:
        """What memory knows, which is never behind the file."""
        held = {log.run_id: log for log in [*opened.keeper.unkept.values(), *self._live]}
        settled = {run_id: log for run_id, log in held.items() if log.claim is None}
        return {run_id: (log.number, log.record) for run_id, log in settled.items()}

    async def unfinished(self) -> tuple[RunRecord, ...]:
        return tuple(log.record for log in self._earlier if not log.finished)

    def kept_spec(self, run_id: str) -> KeptSpec | None:
        log = self._live.get(run_id)
        return None if log is None or log.spec is None else KeptSpec(log.spec, log.lost)

    def trouble(self) -> str | None:
        if self._opened is None:
            return "The run log is not open."
        return self._opened.keeper.trouble

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.pruner.close()
            await opened.keeper.close()
            for log in self._live:
                log.disappoint("The run log is closed.")
            await asyncio.to_thread(opened.readers.close)
            await opened.writer.close()

    def _look_into_damage(self) -> None:
        """A read has found damage. Where all of the file shows it, the writer begins anew."""
        if self._opened is not None:
            checked = self._opened.writer.submit(check_all)
            checked.add_done_callback(asyncio.Future.exception)  # The writer logs it.

    def _renew(self, reason: Exception) -> tuple[sqlite3.Connection, DatabaseFiles] | None:
        """In the writer's thread."""
        if not self._path.parent.is_dir():
            return None  # All is well again where the directory is moved back.
        begun = begin_anew(self._path, self._clock, self._damage, reason)
        return begun.connection, begun.files

    def _renewed(self, files: DatabaseFiles) -> None:
        """All that memory has of Runs is written anew."""
        opened = self._opened
        if opened is None:
            return
        opened.readers.renew(files)
        opened.pruner.begin_anew()
        opened.reservations.leftover.clear()
        for log in {*self._live, *opened.keeper.unkept.values()}:
            log.renew()
            if log.opened:
                opened.keeper.note(log)

    def _give_up(self, log: PersistedRun) -> None:
        if self._opened is not None:
            self._opened.keeper.give_up(log)

    def _make_log(self, record: RunRecord) -> PersistedRun:
        self._next_number += 1
        return PersistedRun(record, number=self._next_number - 1)

    def _restore(
        self, number: int, record: RunRecord, spec: tuple[RunSpec, int] | None
    ) -> PersistedRun:
        """A Run of an earlier process that has no end: it can go on or be ended, and is listed."""
        log = self._live.add(record)
        if spec is not None:
            log.spec, log.lost = spec
            log.spec_taken = True
        log.number, log.opened, log.known = number, True, True
        log.last = log.taken = log.kept = record.last_seq
        log.trimmed = log.first
        log.status = log.written_status = record.status
        log.started_at = record.started_at
        log.owner, log.attempt = record.owner, record.attempt
        return log

    def _held(self, run_id: str) -> PersistedRun | None:
        """The Run where it is in memory: what memory gave up may not be in the file yet."""
        opened = self._opened
        unkept = None if opened is None else opened.keeper.unkept.get(run_id)
        return unkept or self._live.get(run_id)

    def _require(self) -> _Opened:
        if self._opened is None:
            raise StoreFailed("The run log is not open.")
        return self._opened
