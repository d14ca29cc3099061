"""Brings the events of held Runs into the database: those of all Runs in one statement."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from .....domain.errors import StoreFailed
from .....domain.runs import EventBatch
from ...common import encode_events, text
from ..columns import data
from ..database import Database
from .bells import Bells, session_channel
from .held import HeldRun, HeldRuns

logger = logging.getLogger(__name__)

LEAST_WINDOW = 0.02
MOST_WINDOW = 0.16
PATIENCE = 0.1
"""Seconds that events wait which their client reads from memory."""
_RETRY_AFTER = 0.5
_AT_ONCE = 2
"""Flushes of a Run that wait for no window: when it starts, and with its first text."""
_MOST_RUNS = 500
_MOST_BODY = 7_000
"""Bytes of a bell; PostgreSQL allows less than 8,000."""
_APPEND = "SELECT * FROM run_append(%s, %s, %s, %s, %s, %s, %s, %s)"


class Flusher:
    """Stores what is new, a window after it was added: 20 ms, and up to 160 while the database
    takes longer than the window. The first events of a Run wait for no window. Those of a Run whose
    client reads them from memory wait for PATIENCE: otherwise the flushes, and so the cost of a
    token, would grow with the number of processes."""

    def __init__(self, database: Database, runs: HeldRuns, bells: Bells) -> None:
        self._database = database
        self._runs = runs
        self._bells = bells
        self.writing = asyncio.Lock()
        """Held while rows of several held Runs are updated: see the migration."""
        self._dirty: dict[str, HeldRun] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None
        self._flushed_at = 0.0
        self.window = LEAST_WINDOW
        self.count = 0
        self.seconds = 0.0
        """How many flushes there were, and what they took together."""
        self.trouble: str | None = None

    def note(self, run: HeldRun) -> None:
        """There is something new in the Run."""
        if not run.dirty:
            run.dirty = True
            if run.is_read_here and not run.followed_kept:
                run.patient_until = asyncio.get_running_loop().time() + max(PATIENCE, self.window)
            self._dirty[run.run_id] = run
        if self._task is None:
            self._plan(run)

    async def leave_to_end(self, run: HeldRun) -> None:
        """Return once no events of a closing Run are on their way: what is new is stored with its
        last event."""
        if self._dirty.get(run.run_id) is run:
            run.dirty = False
            del self._dirty[run.run_id]
            if not self._dirty and self._timer is not None:
                self._timer.cancel()
                self._timer = None
        while run.flushing and self._task is not None and not self._task.done():
            await asyncio.wait((self._task,))

    async def kept(self, run: HeldRun, last: int) -> None:
        """Return once the events up to that one are stored, or the Run is gone. Raises
        StoreFailed."""
        while run.kept < last and not (run.gone or run.closing):
            run.patient_until = 0.0
            if self._task is None:
                self._begin()
            if self._task is not None:
                await asyncio.shield(self._task)
            if self.trouble is not None:
                raise StoreFailed(self.trouble)

    async def close(self) -> None:
        """Store what there is, if that is possible."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with suppress(StoreFailed):
            for run in list(self._dirty.values()):
                await self.kept(run, run.last)
        task, self._task = self._task, None
        if task is not None:
            await task

    def _plan(self, run: HeldRun) -> None:
        loop = asyncio.get_running_loop()
        due = self._due_of(run, loop.time())
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = loop.call_at(due, self._begin)

    def _due_of(self, run: HeldRun, now: float) -> float:
        if self.trouble is not None:
            return now + _RETRY_AFTER
        if run.flushes < _AT_ONCE:
            return max(now, run.patient_until)
        return max(now, run.patient_until, self._flushed_at + self.window)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None and self._dirty:
            self._task = asyncio.create_task(self._flush(), name="store events of runs")

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        self._flushed_at = began = loop.time()
        # Together with those that would be due a little later.
        batches = self._take(began + PATIENCE / 2)
        try:
            async with self.writing:
                stored = await self._append(batches)
        except StoreFailed as error:
            self.trouble = f"Events of runs cannot be stored: {error} Storing is tried again."
            stored = {}
        except Exception:
            # The outermost handler of the task: without it nothing would be stored any more.
            logger.exception("storing events of runs failed unexpectedly")
            problem = "Events of runs cannot be stored: internal error."
            self.trouble = f"{problem} Storing is tried again."
            stored = {}
        else:
            self.trouble = None
        for run, batch in batches:
            self._stored(run, batch, stored)
        if batches:
            self._measured(loop.time() - began)
        self._task = None
        if self._dirty:
            now = loop.time()
            self._plan(min(self._dirty.values(), key=lambda run: self._due_of(run, now)))

    def _measured(self, took: float) -> None:
        self.count += 1
        self.seconds += took
        if took > self.window:
            self.window = min(self.window * 2, MOST_WINDOW)
        elif took < self.window / 4:
            self.window = max(self.window / 2, LEAST_WINDOW)

    def _take(self, until: float) -> list[tuple[HeldRun, EventBatch]]:
        batches = []
        due = [run for run in self._dirty.values() if run.patient_until <= until]
        for run in due[:_MOST_RUNS]:
            del self._dirty[run.run_id]
            run.dirty = False
            if not run.gone and not run.closing and run.kept < run.last:
                run.flushes += 1
                run.flushing = True
                batches.append((run, run.next_batch()))
        return batches

    async def _append(
        self, batches: list[tuple[HeldRun, EventBatch]]
    ) -> dict[str, tuple[bool, int | None]]:
        if not batches:
            return {}
        rows = [
            (
                data(run.run_id),
                run.owner,
                run.attempt,
                batch.first,
                batch.last,
                encode_events(batch.events),
                str(run.status),
                run.started_at,
            )
            for run, batch in batches
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        found = await self._database.rows(_APPEND, columns)
        stored = {text(run_id): (kept, last) for run_id, kept, last in found}
        for (run, batch), row in zip(batches, rows, strict=True):
            if stored[run.run_id][0]:
                ring_events(self._bells, run, batch, row[5], final=False)
        return stored

    def _stored(
        self, run: HeldRun, batch: EventBatch, stored: dict[str, tuple[bool, int | None]]
    ) -> None:
        run.flushing = False
        answer = stored.get(run.run_id)
        if answer is not None:
            _, last = answer
            if last is None:
                if not run.closing:  # Else the statement for its last event reports that.
                    self._runs.lose(run)
                return
            run.keep(last)
            run.unkept = 0 if run.kept == run.last else run.unkept // 2
        if run.kept < run.last and not run.gone:
            self.note(run)


def ring_events(bells: Bells, run: HeldRun, batch: EventBatch, body: bytes, *, final: bool) -> None:
    """The events are stored. Those that are not very long are in the bell, which is not urgent
    where the Run's own client does not wait for it."""
    channel = session_channel(run.channel)
    if bells.is_alone() and not bells.hears(channel):
        return
    head = f"{run.number} {batch.first} {batch.last} {final:d} "
    payload = head
    if len(body) <= _MOST_BODY:
        with suppress(UnicodeDecodeError):
            payload += body.decode()
    bells.ring(channel, payload, is_urgent=not run.is_read_here)
