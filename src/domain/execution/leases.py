"""The leases of the Runs that this process executes: renewed in time, or lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context
from typing import Any

from ..errors import GatewayError
from ..ports import RunQueue
from .live_runs import LiveRun

logger = logging.getLogger(__name__)


class Leases:
    """Renews the claims of `owner` after a third of `seconds`, for as long as there are any.

    `outage`: seconds without a renewal for which Runs go on while the queue cannot be reached.
    `runs`: those at work. `lose` is called with a Run whose lease is lost. `beside` starts a task
    that belongs to no Run.
    """

    def __init__(
        self,
        queue: RunQueue,
        owner: str,
        seconds: float,
        *,
        outage: float,
        runs: Collection[LiveRun],
        lose: Callable[[LiveRun], None],
        beside: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._queue = queue
        self._owner = owner
        self._seconds = seconds
        self._outage = outage
        self._runs = runs
        self._lose = lose
        self._beside = beside
        self._renewed_at = 0.0
        self.timer: asyncio.TimerHandle | None = None
        """For the next renewal; None where none is planned."""

    def plan(self) -> None:
        """The timer is not cancelled when there is no claim left, since the next one comes soon."""
        loop = asyncio.get_running_loop()
        self._renewed_at = loop.time()
        self.timer = loop.call_later(self._seconds / 3, self._renew, context=Context())

    async def show_life(self) -> None:
        """Get claims again: the queue takes an owner that has lost a lease for dead."""
        try:
            await self._queue.renew(self._owner, ())
        except GatewayError as error:
            logger.warning("leases were not renewed", extra={"reason": str(error)})

    def _renew(self) -> None:
        self.timer = None
        if self._runs:
            self._beside(self._renew_all())

    async def _renew_all(self) -> None:
        runs = tuple(self._runs)
        try:
            async with asyncio.timeout(self._seconds / 3):
                lost = await self._queue.renew(self._owner, [live.claim for live in runs])
        except (GatewayError, TimeoutError) as error:
            logger.warning("leases were not renewed", extra={"reason": str(error)})
            if asyncio.get_running_loop().time() - self._renewed_at < self._outage:
                self.timer = asyncio.get_running_loop().call_later(
                    self._seconds / 6, self._renew, context=Context()
                )
                return
            lost = [live.claim for live in runs]  # Others have them by now.
        gone = {(claim.spec.id, claim.attempt) for claim in lost}
        for live in runs:
            if (live.spec.id, live.claim.attempt) in gone:
                self._lose(live)
        self.plan()
