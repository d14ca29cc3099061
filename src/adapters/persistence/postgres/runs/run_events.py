"""The events of Runs in PostgreSQL, and in memory where this process holds the Run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import suppress

from .....domain.errors import StoreFailed, UnknownRun
from .....domain.ports import Clock
from .....domain.runs import (
    Claim,
    EventBatch,
    RunEvent,
    RunPage,
    RunQuery,
    RunRecord,
)
from ...common import BOUNDS, Bounds, Numbered, encode_cursor, page_of, wake, woken
from ..database import Database
from .bells import Bells
from .flusher import Flusher
from .follow import Follower
from .held import HeldRun, HeldRuns
from .pruner import Pruner
from .reads import find_run, list_runs, which_go_on
from .watches import Watches

logger = logging.getLogger(__name__)

_PRUNE_EVERY = 60.0


class PostgresRunEvents:
    """A RunEvents, for all processes that use the database.

    Events are stored within `Flusher.window` seconds, and followers in other processes get them by
    bells, or at the latest when they look after `look_every` seconds. `bounds` is for memory. A Run
    is known for `keep_seconds` after its end by the database's clock; `clock` (Unix time) is for
    records, `steady` never jumps.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        steady: Clock = time.monotonic,
        bounds: Bounds = BOUNDS,
        keep_seconds: float = 86_400.0,
        keep_bytes: int = 256 * 1024 * 1024,
        listen_url: str = "",
        look_every: float = 2.0,
    ) -> None:
        self.database = database
        self.clock = clock
        self.steady = steady
        self.bells = Bells(database, listen_url)
        self.held = HeldRuns(
            clock=clock, bounds=bounds, steady=steady, away_within=database.away_within
        )
        self.flusher = Flusher(database, self.held, self.bells)
        self.watches = Watches(database, self.bells)
        self._pruner = Pruner(database, keep_seconds=keep_seconds, keep_bytes=keep_bytes)
        self._look_every = look_every
        self._looking: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self.is_open = False
        self.on_look: list[Callable[[], Awaitable[None]]] = []
        """Called every `look_every` seconds; may raise StoreFailed."""
        self.on_close: list[Callable[[], Awaitable[None]]] = []
        """Called before the connections are given up."""
        self.held.on_hold.append(self._held_now)

    async def start(self) -> None:
        """Raises StoreFailed."""
        await self.database.open()
        try:
            await self.bells.start()
        except BaseException:
            await self.bells.close()
            await self.database.close()
            raise
        self.is_open = True
        self._looking = asyncio.create_task(self._look_on(), name="look into the database")

    async def append(self, claim: Claim, events: Sequence[RunEvent]) -> int:
        run = self.held.of(claim)
        self.held.append(run, events, claim)
        last = run.last
        if not run.dirty:
            self.flusher.note(run)
        await self.held.room(run)
        return last

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        """Raises UnknownRun with the first event."""
        return self._follow(run_id, after, kept=False)

    def follow_kept(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        return self._follow(run_id, after, kept=True)

    def _follow(self, run_id: str, after: int, *, kept: bool) -> Follower:
        return Follower(run_id, max(after, 0), kept=kept, held=self.held, watches=self.watches)

    async def ended(self, run_id: str) -> None:
        while True:
            run = self.held.get(run_id)
            if run is None:
                break
            if run.finished or run.handed_back:
                return
            await woken(run.end_waiters)
            if run.handed_back:
                return
        watch = self.watches.get(run_id)
        with suppress(UnknownRun):
            await self.watches.begin(watch)
            while not watch.final and self.held.get(run_id) is None:
                if watch.stale:
                    await self.watches.read(watch, 2**31 - 2)
                else:
                    await woken(watch.waiters)
            if not watch.final:
                await self.ended(run_id)

    async def find(self, run_id: str) -> RunRecord | None:
        found = await self._find(run_id)
        return None if found is None else found[1]

    async def which_go_on(self, run_ids: Collection[str]) -> frozenset[str]:
        """Of those that are held here the database may know less."""
        held = [run for run_id in run_ids if (run := self.held.get(run_id)) is not None]
        known = {run.run_id for run in held}
        others = [run_id for run_id in run_ids if run_id not in known]
        unfinished = await which_go_on(self.database, others) if others else frozenset()
        return unfinished | {run.run_id for run in held if not run.record.status.final}

    async def cursor(self, run_id: str) -> str | None:
        found = await self._find(run_id)
        return None if found is None else encode_cursor(found[0])

    async def _find(self, run_id: str) -> Numbered | None:
        run = self.held.get(run_id)
        if run is not None:
            return run.number, run.record
        return await find_run(self.database, run_id)

    async def list(self, query: RunQuery) -> RunPage:
        """Of the Runs that are held here the database may know less."""
        known = self.held.records()
        stored = await list_runs(self.database, query, query.limit + 1 + len(known))
        known |= self.held.records()
        others = [one for one in stored if one[1].id not in known]
        return page_of([*known.values(), *others], query)

    def trouble(self) -> str | None:
        return self.flusher.trouble if self.is_open else "The database of runs is not open."

    async def close(self) -> None:
        if not self.is_open:
            return
        for close in self.on_close:
            await close()
        self.is_open = False
        looking, self._looking = self._looking, None
        if looking is not None:
            self._closing.set()
            await looking
        await self.flusher.close()
        await self.bells.close()
        await self.database.close()

    def _held_now(self, run: HeldRun) -> None:
        watch = self.watches.find(run.run_id)
        if watch is not None:
            wake(watch.waiters)

    async def _look_on(self) -> None:
        """In case bells were lost."""
        loop = asyncio.get_running_loop()
        pruned_at = loop.time() - _PRUNE_EVERY
        while not self._closing.is_set():  # Not cancelled: see Bells.close.
            try:
                await self.watches.look()
                for look in self.on_look:
                    await look()
                if loop.time() - pruned_at >= _PRUNE_EVERY:
                    pruned_at = loop.time()
                    await self._pruner.prune()
            except StoreFailed as error:
                logger.debug("the database was not looked into", extra={"reason": str(error)})
            except Exception:
                # The outermost handler of the task: without it no lost notification is made up for.
                logger.exception("looking into the database failed unexpectedly")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_every):
                    await self._closing.wait()
