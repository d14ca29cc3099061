"""Runs that end with their followers: the last one may leave, or die, at any process."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from .....domain.errors import StoreFailed
from .....domain.runs import OnLeave
from ...common import text
from ..columns import data
from ..nodes import PostgresNodes
from .process import Process
from .signals import PARENT_ENDED, Signals

logger = logging.getLogger(__name__)

LEFT = "The client left."
DIED = "The process that the client was connected to has died."

_WATCH = "SELECT runs_watch(%s, %s)"
_LEAVE = "SELECT run_leave(%s, %s, %s)"
_FORGET = """
    DELETE FROM watchers w USING runs r WHERE r.id = ANY(%s) AND w.run = r.number AND w.node = %s"""
_ORPHANS = """
    SELECT r.id, true FROM runs r WHERE r.parent IS NOT NULL AND r.state <> 'ended'
        AND NOT EXISTS (SELECT FROM runs p WHERE p.id = r.parent AND p.state <> 'ended')"""
_UNFOLLOWED = """
    SELECT r.id, false FROM runs r
    WHERE r.number = ANY(%s) AND r.state = 'held' AND r.accepted_by IS NOT NULL
        AND NOT run_is_followed(r.number, r.accepted_by)
    UNION ALL
    SELECT r.id, false FROM runs r
    WHERE r.state = 'waiting' AND r.on_leave = 'abort' AND r.accepted_by IS NOT NULL
        AND NOT run_is_followed(r.number, r.accepted_by)"""


class PostgresWatchers:
    """A Watchers. The process that has accepted a Run is in the Run's row, in the commit that
    accepts it; the others are rows of a table."""

    def __init__(self, process: Process, signals: Signals, nodes: PostgresNodes | None) -> None:
        self._process = process
        self._signals = signals
        self._nodes = nodes
        self._database = process.database
        self._followed: dict[str, bool] = {}
        """Runs with followers here, by id: whether there is a row of the table for it."""
        self._entering: Counter[str] = Counter()
        """By the id of a Run, the followers here for which its row is being stored."""
        self._leaving: dict[str, bool] = {}
        """By id, the Runs whose last follower here has left, which is not stored yet: `goes_on`."""
        self._left_over: list[str] = []
        """Runs without followers here, of which there may be a row that is to be deleted."""
        if nodes is not None:
            nodes.on_return.append(self._return)

    async def enter(self, run_id: str) -> None:
        self._leaving.pop(run_id, None)
        if run_id in self._process.accepted:
            self._followed[run_id] = False
            return
        if self._followed.get(run_id):
            return
        # Others that enter at the same time store the row, too: this call may fail or be cancelled.
        self._entering[run_id] += 1
        try:
            await self._store((run_id,))
        except BaseException:
            # The row may be there: the answer was lost, or came after the cancellation.
            self._left_over.append(run_id)
            raise
        else:
            self._followed[run_id] = True
        finally:
            self._entering[run_id] -= 1
            if not self._entering[run_id]:
                del self._entering[run_id]

    def ended(self, run_id: str) -> None:
        self._process.accepted.pop(run_id, None)
        if self._followed.pop(run_id, False):
            self._left_over.append(run_id)

    async def leave(self, run_id: str, *, goes_on: bool) -> None:
        self.ended(run_id)  # It may have.
        self._leaving[run_id] = goes_on
        try:
            await self._leave(run_id, goes_on)
        except StoreFailed as error:
            extra = {"run": run_id, "reason": str(error)}
            logger.warning("a client has left; the run is stopped later", extra=extra)

    async def _leave(self, run_id: str, goes_on: bool) -> None:
        row = await self._database.row(_LEAVE, (data(run_id), self._process.node, goes_on))
        if self._is_followed(run_id):  # A follower has entered meanwhile.
            await self._store((run_id,))
        elif row is not None and row[0]:
            await self._signals.abort(run_id, LEFT)
        self._leaving.pop(run_id, None)

    async def look(self) -> None:
        """Repeat what has failed, and stop the Runs whose parents have ended, or of whose last
        followers the processes have died. Raises StoreFailed."""
        for run_id, goes_on in list(self._leaving.items()):
            await self._leave(run_id, goes_on)
        await self._forget_left_over()
        if not self._process.works:
            return
        if self._nodes is not None and self._nodes.heartbeats_are_reliable:
            numbers = self._held_for_others()
            found = await self._database.rows(f"{_ORPHANS} UNION ALL {_UNFOLLOWED}", (numbers,))
        else:
            found = await self._database.rows(_ORPHANS)
        for run_id, is_orphan in found:
            await self._signals.abort(text(run_id), PARENT_ENDED if is_orphan else DIED)

    async def _forget_left_over(self) -> None:
        count = len(self._left_over)
        run_ids = [one for one in self._left_over if not self._is_followed(one)]
        if run_ids:
            ids = [data(run_id) for run_id in run_ids]
            await self._database.execute(_FORGET, (ids, self._process.node))
            # The row of a follower that has entered meanwhile may be deleted.
            if entered := [run_id for run_id in run_ids if self._is_followed(run_id)]:
                await self._store(entered)
        del self._left_over[:count]

    def _is_followed(self, run_id: str) -> bool:
        """Whether the Run has a follower here, or is about to."""
        return run_id in self._followed or run_id in self._entering

    def _held_for_others(self) -> list[int]:
        """The numbers of the Runs that end with followers elsewhere."""
        return [
            run.number
            for run in self._process.held
            if run.begun.on_leave is OnLeave.ABORT and not self._is_followed(run.run_id)
        ]

    async def _store(self, run_ids: Sequence[str]) -> None:
        values = ([data(run_id) for run_id in run_ids], self._process.node)
        await self._database.execute(_WATCH, values)

    def _return(self) -> None:
        """The row of this process was deleted, and those of its followers with it."""
        run_ids = [run_id for run_id, stored in self._followed.items() if stored]
        run_ids += self._entering
        if run_ids:
            self._process.aside(self._store(run_ids))
