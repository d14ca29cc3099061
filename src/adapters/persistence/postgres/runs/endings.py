"""How a Run leaves this process: it ends, waits for a signal, or is handed back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .....domain.errors import StoreFailed
from .....domain.runs import (
    TERMINAL,
    Aborted,
    Claim,
    EventBatch,
    Failed,
    Finished,
    OnLeave,
    Waiting,
    status_after,
)
from ...common import encode_events, text
from ..columns import data
from .bells import READY
from .flusher import ring_events
from .held import HeldRun, is_ephemeral, lease_lost
from .process import Process
from .reads import stored_run
from .rows import Row
from .signals import Signals

_RETRY_AFTER = 0.2
_ROOM_FOR_END = 200
"""Events that a row has room for beside the last one."""

_FINISH = "SELECT * FROM run_finish(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
# A stored turn says how its Run has ended: if the end is lost with the server, the process that
# takes over the Run stores it again. The commit waits for the disk where a client follows the Run
# from elsewhere.
_FINISH_SOON = """
    SELECT outcome, last, next, children, set_config('synchronous_commit', CASE
        WHEN outcome = 'ended' AND EXISTS (SELECT FROM turns WHERE run_id = %s)
            AND NOT EXISTS (SELECT FROM watchers WHERE run = %s)
        THEN 'off' ELSE current_setting('synchronous_commit') END, true)
    FROM run_finish(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_WAIT = "SELECT * FROM run_wait(%s, %s, %s, %s, %s, %s, %s, %s, %s)"
_HAND_BACK = "SELECT run_hand_back(%s, %s, %s)"


class Endings:
    """Stores the last event of an attempt together with those that are not stored yet."""

    def __init__(self, process: Process, signals: Signals) -> None:
        self._process = process
        self._signals = signals
        self._database = process.database
        self._held = process.held
        self._flusher = process.flusher

    async def finish(self, claim: Claim, ending: Finished | Failed | Aborted) -> None:
        run = self._held.of(claim)
        await self._make_room(run)
        run.closing = True
        next_turn, children = await self._store_last(run, self._finish, ending)
        self._held.end(run, ending)
        self._process.settled(next_turn)
        await self._signals.abort_children(children)

    async def _finish(self, run: HeldRun, batch: EventBatch, body: bytes) -> Row:
        ending = batch.events[-1]
        status = status_after(ending)
        values: Row = (
            *(data(run.run_id), run.owner, run.attempt, run.lane),
            *(batch.first, batch.last, body, str(status), run.started_at),
            self._process.events.clock(),
        )
        query = _FINISH
        if (
            isinstance(ending, Finished)
            and is_ephemeral(run.begun, run.begun.fingerprint)
            and not run.followed_kept
        ):
            query, values = _FINISH_SOON, (data(run.run_id), run.number, *values)
        (row,) = await self._database.rows(query, values)
        return row

    async def wait(self, claim: Claim, waiting: Waiting, *, signals_read: int) -> None:
        run = self._held.of(claim)
        await self._make_room(run)
        read = run.signals[signals_read - 1] if 0 < signals_read <= len(run.signals) else 0
        run.closing = True

        async def store(run: HeldRun, batch: EventBatch, body: bytes) -> Row:
            values = (
                *(data(run.run_id), run.owner, run.attempt, run.lane),
                *(batch.first, batch.last, body, run.started_at, read),
            )
            (row,) = await self._database.rows(_WAIT, values)
            return row

        next_turn, reason = await self._store_last(run, store, waiting)
        if reason is not None:
            run.closing = False
            self._held.append(run, (waiting,))
            run.owner = claim.owner  # Which `append` has cleared.
            await self.finish(claim, Aborted(text(reason)))
            return
        self._held.append(run, (waiting,))
        run.keep(run.last)
        self._held.leave(run)
        self._process.settled(next_turn)

    async def hand_back(self, run_id: str) -> bool:
        """True as well for a Run that this process does not hold. A Run that ends with its client
        is not handed back by the process that serves the client."""
        run = self._held.get(run_id)
        if run is None:
            stored = await stored_run(self._database, run_id)
            return stored is not None and stored.state != "ended"
        if (
            run.finished
            or run.closing
            or run.abort_reason is not None
            or run.lane is None
            or (run.accepted_here and run.begun.on_leave is OnLeave.ABORT)
        ):
            return False
        await self._flusher.kept(run, run.last)
        if run.gone:
            return True
        run.closing = True
        values = (data(run_id), run.owner, run.attempt)
        try:
            row = await self._database.row(_HAND_BACK, values, repeat=False)
        except BaseException:
            run.closing = False
            raise
        if row is None or not row[0]:
            run.closing = False
            return False
        self._held.requeued(run)
        self._process.bells.ring(READY, self._process.node)
        return True

    async def _make_room(self, run: HeldRun) -> None:
        """Have most of what is new stored, so that the rest has room beside the last event."""
        since = self._process.steady()
        while run.last - run.kept > _ROOM_FOR_END or run.next_batch().last < run.last:
            try:
                await self._flusher.kept(run, run.last)
            except StoreFailed:
                if self._process.gives_up(since):
                    raise
                await asyncio.sleep(_RETRY_AFTER)
            if run.gone:
                raise lease_lost(run.run_id)

    async def _store_last(
        self,
        run: HeldRun,
        store: Callable[[HeldRun, EventBatch, bytes], Awaitable[Row]],
        event: Finished | Failed | Aborted | Waiting,
    ) -> tuple[str, Any]:
        """Store what is left of the Run's events with the last one. Tried again while the database
        cannot be used. Raises LeaseLost, StoreFailed."""
        since = self._process.steady()
        while True:
            try:
                await self._flusher.leave_to_end(run)
                batch = run.next_batch(event)
                body = encode_events(batch.events)
                outcome, last, *answer = await store(run, batch, body)
            except StoreFailed:
                if self._process.gives_up(since) or run.gone:
                    self._held.lose(run)
                    raise
                await asyncio.sleep(_RETRY_AFTER)
                continue
            except BaseException:
                run.closing = False
                self._flusher.note(run)
                raise
            if outcome == "behind":
                run.keep(last)
            elif outcome == "lost":
                self._held.lose(run)
                raise lease_lost(run.run_id)
            elif outcome == "abort":
                return "", answer[1]
            else:
                is_final = isinstance(event, TERMINAL)
                ring_events(self._process.bells, run, batch, body, final=is_final)
                return answer[0] or "", None if isinstance(event, Waiting) else answer[1]
