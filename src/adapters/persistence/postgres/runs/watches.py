"""The state, in this process, of Runs that other processes hold and that are followed here."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from .....domain.errors import StoreFailed
from .....domain.runs import EventBatch, RunEvent
from ...common import (
    MOST_AT_ONCE,
    MOST_BYTES_AT_ONCE,
    Undecodable,
    Waiters,
    decode_events,
    expired,
    size_of,
    unknown,
    wake,
)
from ..availability import MOST_OUTAGE
from ..columns import data
from ..database import Database
from .bells import Bells, channel_of, session_channel

_MOST_RECENT = 64
"""Batches out of bells that are held for followers that are a moment behind."""
_ROWS_AT_ONCE = 4
_BEGIN = "SELECT number, session_key FROM runs WHERE id = %s"
_READ = """
    SELECT r.last_seq, r.state = 'ended', e.first, e.body
    FROM runs r LEFT JOIN LATERAL (
        SELECT first, body FROM events
        WHERE run = r.number AND first > %s AND last > %s ORDER BY first LIMIT %s
    ) AS e ON true
    WHERE r.id = %s ORDER BY e.first"""
_LOOK = "SELECT number, last_seq, state = 'ended' FROM runs WHERE number = ANY(%s)"


class Watch:
    """A Run that is followed, for all its followers in this process. It is forgotten with the last
    of them."""

    __slots__ = (
        "__weakref__",
        "begun",
        "channel",
        "final",
        "last",
        "number",
        "reads",
        "recent",
        "run_id",
        "stale",
        "waiters",
    )

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.number = 0
        self.channel = -1
        self.begun: asyncio.Task[None] | None = None
        """Finds the Run and its bells."""
        self.last = 0
        """The newest event that is known of."""
        self.stale = True
        """There may be newer ones: the database is to be asked."""
        self.final = False
        self.recent: deque[EventBatch] = deque(maxlen=_MOST_RECENT)
        self.reads: dict[int, asyncio.Task[EventBatch | None]] = {}
        """Those that are going on, by where they begin."""
        self.waiters: Waiters = set()

    def update(self, last: int, final: bool) -> None:
        """A bell or the database reports that number as the newest event; `final`: it is the
        terminal one."""
        if last > self.last or final:
            self.last = max(last, self.last)
            self.final = self.final or final
            wake(self.waiters)

    def mark_stale(self) -> None:
        """Bells may have been missed."""
        self.stale = True
        wake(self.waiters)

    def behind(self, seq: int) -> EventBatch | None:
        """The next events out of bells, where there was one for them."""
        for batch in self.recent:
            if batch.first <= seq + 1 <= batch.last:
                events = batch.events[seq + 1 - batch.first :]
                return EventBatch(seq + 1, events)
        return None


class Watches:
    """The Watches of this process, by the ids of the Runs."""

    def __init__(self, database: Database, bells: Bells) -> None:
        self._database = database
        self._bells = bells
        self._by_id: WeakValueDictionary[str, Watch] = WeakValueDictionary()
        self._by_number: WeakValueDictionary[int, Watch] = WeakValueDictionary()
        self._channels: set[int] = set()
        bells.on_again.append(self._mark_all_stale)

    def get(self, run_id: str) -> Watch:
        watch = self._by_id.get(run_id)
        if watch is None:
            watch = self._by_id[run_id] = Watch(run_id)
        return watch

    def find(self, run_id: str) -> Watch | None:
        return self._by_id.get(run_id)

    async def begin(self, watch: Watch) -> None:
        """Listen to the bells of the Run, before its events are read. Raises UnknownRun,
        StoreFailed."""
        if watch.number:
            return
        if watch.begun is None or watch.begun.done():
            watch.begun = asyncio.create_task(self._begin(watch))
            watch.begun.add_done_callback(retrieve)
        await asyncio.shield(watch.begun)

    async def _begin(self, watch: Watch) -> None:
        row = await self._database.row(_BEGIN, (data(watch.run_id),))
        if row is None:
            raise unknown(watch.run_id)
        watch.channel = channel_of(row[1])
        self._channels.add(watch.channel)
        self._by_number[row[0]] = watch
        await self._bells.listened(session_channel(watch.channel), self._heard)
        watch.number = row[0]

    async def read(self, watch: Watch, seq: int) -> EventBatch | None:
        """The events behind `seq` that the database has; followers at the same place share a query.
        Raises EventsExpired, UnknownRun, StoreFailed."""
        task = watch.reads.get(seq)
        if task is None:
            task = watch.reads[seq] = asyncio.create_task(self._read(watch, seq))
            task.add_done_callback(lambda _: watch.reads.pop(seq, None))
            task.add_done_callback(retrieve)
        return await asyncio.shield(task)

    async def _read(self, watch: Watch, seq: int) -> EventBatch | None:
        values = (seq - MOST_AT_ONCE, seq, _ROWS_AT_ONCE, data(watch.run_id))
        watch.stale = False  # Bells that ring meanwhile are heard.
        try:
            read = partial(self._database.rows, _READ, values)
            rows = await self._database.patiently(read, MOST_OUTAGE)
        except BaseException:
            watch.mark_stale()
            raise
        if not rows:
            watch.mark_stale()
            raise unknown(watch.run_id)
        last, final = rows[0][:2]
        watch.update(last, final)
        batch = _joined([(first, body) for _, _, first, body in rows if first is not None], seq)
        if batch is None:
            if seq < last:
                raise expired(watch.run_id, seq + 1, last + 1)
            return None
        if batch.first > seq + 1:
            raise expired(watch.run_id, seq + 1, batch.first)
        return batch

    async def look(self) -> None:
        """Ask the database how the Runs stand, in case a bell was lost. Raises StoreFailed."""
        followed = dict(self._by_number)
        if followed:
            for number, last, final in await self._database.rows(_LOOK, (list(followed),)):
                followed[number].update(last, final)
        used = {watch.channel for watch in followed.values()} | {
            watch.channel for watch in self._by_id.values()
        }
        for channel in self._channels - used:
            self._channels.discard(channel)
            self._bells.ignore(session_channel(channel))

    def _mark_all_stale(self) -> None:
        """Bells may have been missed."""
        for watch in list(self._by_id.values()):
            watch.mark_stale()

    def _heard(self, payload: str) -> None:
        number, first, last, final, body = payload.split(" ", 4)
        watch = self._by_number.get(int(number))
        if watch is None:
            return
        if body:
            try:
                batch = EventBatch(int(first), tuple(decode_events(body.encode())))
            except Undecodable:
                pass  # They are read from the database.
            else:
                watch.recent.append(batch)
        watch.update(int(last), final == "1")


def retrieve(task: asyncio.Task[Any]) -> None:
    """Retrieve the task's exception: those who wait for the task may have been cancelled."""
    if not task.cancelled():
        task.exception()


def _joined(rows: list[tuple[int, bytes]], seq: int) -> EventBatch | None:
    """The first events of the rows that are behind `seq`, not very many at once."""
    events: list[RunEvent] = []
    first, size = 0, 0
    for begin, body in rows:
        if events and begin != first + len(events):
            break
        try:
            found = decode_events(body)
        except Undecodable as error:
            raise StoreFailed(f"Stored events of a run cannot be read: {error}.") from error
        if not events:
            first = max(begin, seq + 1)
            found = found[first - begin :]
        for event in found:
            size += size_of(event)
            if events and (len(events) == MOST_AT_ONCE or size > MOST_BYTES_AT_ONCE):
                return EventBatch(first, tuple(events))
            events.append(event)
    return EventBatch(first, tuple(events)) if events else None
