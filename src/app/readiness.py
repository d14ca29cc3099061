"""The readiness check: store, event loop, background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ..domain.errors import StoreFailed
from ..domain.ports import RunEvents, SessionStore
from .supervisor import Supervisor


class Readiness:
    """Reports the failing parts. `watch()` measures the event loop while it runs.

    In seconds: the interval of the measurement, the delay from which on the loop is late, and the
    timeout of the store. `unavailable`: further parts that cannot be used now, while the others are
    served.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        run_events: RunEvents,
        supervisor: Supervisor,
        unavailable: Callable[[], Mapping[str, str]] = dict,
        beat: float = 0.25,
        late: float = 1.0,
        store_deadline: float = 2.0,
    ) -> None:
        self._store = store
        self._run_events = run_events
        self._supervisor = supervisor
        self._unavailable = unavailable
        self._beat = beat
        self._late_at = late
        self._store_deadline = store_deadline
        self._beat_due: float | None = None
        self._late = 0.0
        self.draining = False

    async def watch(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = self._beat_due = loop.time() + self._beat
            await asyncio.sleep(self._beat)
            self._late = loop.time() - due

    async def check(self) -> Mapping[str, str]:
        """The failing parts, each with a sentence; empty if the Gateway is ready."""
        failing: dict[str, str] = dict(self._supervisor.failing())
        if self.draining:
            failing["gateway"] = "The Gateway is shutting down."
        if late := self._lateness():
            failing["event loop"] = f"The event loop is {late:.1f} s behind."
        try:
            async with asyncio.timeout(self._store_deadline):
                await self._store.check()
        except StoreFailed as error:
            failing["store"] = error.message
        except TimeoutError:
            failing["store"] = f"The store did not answer within {self._store_deadline:g} s."
        return failing

    def degraded(self) -> Mapping[str, str]:
        """The parts that failed or are not ready, while runs continue."""
        failing = self._supervisor.failing()
        degraded = {k: v for k, v in self._supervisor.degraded().items() if k not in failing}
        if (trouble := self._run_events.trouble()) is not None:
            degraded["run log"] = trouble
        return degraded | dict(self._unavailable())

    def _lateness(self) -> float:
        """Seconds by which the last measurement was late, or the next one already is."""
        if self._beat_due is None:
            return 0.0
        late = max(self._late, asyncio.get_running_loop().time() - self._beat_due)
        return late if late > self._late_at else 0.0
