"""Requests per minute and runs at once of API keys, counted in PostgreSQL for all processes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextvars import Context
from dataclasses import dataclass

from ....domain.errors import StoreFailed
from ....domain.ports import Clock, RunAdmission
from ..common import text
from .columns import data
from .database import Database

logger = logging.getLogger(__name__)

_MINUTE = 60.0
_PATIENCE = 30.0
"""Seconds from the admission of a run to its submission."""
_LARGEST_BATCH = 10
_PER_BATCHED_REQUEST = 400
"""A batch has one request more for each time that a minute has so many, so that what four processes
have taken and not used is 1 % of a minute at most."""
_TAKE = """
    SELECT taken, available
    FROM take_key_requests(%s, %s, %s, coalesce(%s::float8, server_now()))"""
_BEGIN = "SELECT outcome, running FROM begin_key_run(%s, %s, %s, %s)"
_END = """
    DELETE FROM key_runs WHERE run_id = ANY(%s) AND key_run_is_over(run_id, 0, 0)
    RETURNING run_id"""


@dataclass(slots=True)
class _Requests:
    """Of one key in this process: those `taken` from the database and not used; those `left` there
    at the time `at`; before `empty_until` there is none."""

    per_minute: int
    taken: int = 0
    left: float = 0.0
    at: float | None = None
    empty_until: float = 0.0
    in_batch: bool = False
    """Several are being taken."""


class PostgresKeyCounters:
    """KeyCounters in a Database, which others open and close.

    A key without a limit costs no query. `steady` never jumps. `clock`: in place of the database's.
    """

    def __init__(
        self, database: Database, *, steady: Clock = time.monotonic, clock: Clock | None = None
    ) -> None:
        self._database = database
        self._steady = steady
        self._clock = clock
        self._requests: dict[str, _Requests] = {}
        self._admitted: dict[str, Counter[str]] = {}
        """By key the runs that this process has admitted and not released, with the number of
        requests for each."""
        self._running: dict[str, int] = {}
        """By key its runs at work on all nodes, as far as this process knows."""
        self._over: dict[str, str] = {}
        """The runs that this process has released, with the keys whose number they still count in;
        empty: in none."""
        self._ending: asyncio.Task[None] | None = None

    async def take(self, key_id: str, per_minute: int) -> float:
        requests = self._requests_of(key_id, per_minute)
        if requests.taken:
            requests.taken -= 1
            return 0.0
        now = self._steady()
        if now < requests.empty_until:
            return requests.empty_until - now
        # One batch at a time: requests that arrive meanwhile take one each.
        size = 1
        if not requests.in_batch:
            size = min(_LARGEST_BATCH, 1 + per_minute // _PER_BATCHED_REQUEST)
        requests.in_batch |= (in_batch := size > 1)
        try:
            at = None if self._clock is None else self._clock()
            values = (data(key_id), size, per_minute, at)
            ((taken, available),) = await self._database.rows(_TAKE, values)
        finally:
            if in_batch:
                requests.in_batch = False
        requests.left, requests.at = available - taken, now
        if taken:
            requests.taken += taken - 1
            return 0.0
        wait: float = (1 - available) * _MINUTE / per_minute
        requests.empty_until = now + wait
        return wait

    def left(self, key_id: str, per_minute: int) -> float:
        requests = self._requests_of(key_id, per_minute)
        if requests.at is None:
            return per_minute
        filled = (self._steady() - requests.at) * per_minute / _MINUTE
        return min(per_minute, requests.left + filled + requests.taken)

    async def begin(
        self, key_id: str, run_id: str, most: int | None, *, known: bool
    ) -> RunAdmission:
        if known:
            return RunAdmission.KNOWN
        if most is None:
            return RunAdmission.NEW
        values = (data(key_id), data(run_id), most, _PATIENCE)
        ((outcome, self._running[key_id]),) = await self._database.rows(_BEGIN, values)
        admission = RunAdmission(outcome)
        if admission is RunAdmission.NEW or run_id in self._admitted.get(key_id, ()):
            self._admitted.setdefault(key_id, Counter())[run_id] += 1
        return admission

    def release(self, key_id: str, run_id: str) -> None:
        admitted = self._admitted.get(key_id)
        if admitted is not None and run_id in admitted:
            admitted[run_id] -= 1
            if not admitted[run_id]:  # The run may go on at another node.
                self._end_soon(key_id, run_id, counted=key_id)

    def stopped(self, key_id: str, run_id: str) -> None:
        if run_id in self._admitted.get(key_id, ()):
            self._count_down(key_id)
            self._end_soon(key_id, run_id, counted="")

    def _end_soon(self, key_id: str, run_id: str, *, counted: str) -> None:
        del self._admitted[key_id][run_id]
        if not self._admitted[key_id]:
            del self._admitted[key_id]
        self._over[run_id] = counted
        if self._ending is None:
            # In a context of its own: it does not keep the one of a request.
            self._ending = asyncio.create_task(self._end(), context=Context())

    def running(self, key_id: str) -> int:
        return self._running.get(key_id, 0)

    async def flush(self) -> None:
        if self._ending is not None:
            await asyncio.wait((self._ending,))

    async def _end(self) -> None:
        """Delete the rows of runs that have ended, or were not begun. A run that goes on elsewhere
        keeps its row."""
        try:
            while self._over:
                over, self._over = self._over, {}
                ended = await self._database.rows(_END, ([data(run_id) for run_id in over],))
                for (run_id,) in ended:
                    if key_id := over[text(run_id)]:
                        self._count_down(key_id)
        except StoreFailed as error:  # The next admission of a run of the key deletes them.
            logger.debug("runs of keys were not released", extra={"reason": error.message})
        finally:
            self._ending = None

    def _count_down(self, key_id: str) -> None:
        self._running[key_id] = max(0, self._running[key_id] - 1)

    def _requests_of(self, key_id: str, per_minute: int) -> _Requests:
        requests = self._requests.get(key_id)
        if requests is None or requests.per_minute != per_minute:
            requests = self._requests[key_id] = _Requests(per_minute)
        return requests
