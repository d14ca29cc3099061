"""Measurements of the database by a process that uses it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from secrets import token_hex

from ....domain.ports import Metric, MetricKind
from .runs import PostgresRunEvents

_CHANNEL = "lag"
_PATIENCE = 2.0
"""Seconds that a bell may take; later ones count as lost."""


class PostgresMeter:
    """A Meter of the connections, of the flushes of events, and of bells: each reading rings one,
    for which this process listens."""

    def __init__(self, events: PostgresRunEvents) -> None:
        self._events = events

    async def metrics(self) -> Sequence[Metric]:
        flusher, pool = self._events.flusher, self._events.database.pool_stats()
        counter = MetricKind.COUNTER
        window = "Seconds between two flushes of events; it grows while the database is slow."
        lag = "Seconds that a notification takes through the database; NaN: it was lost."
        waiting = "Calls that wait for a connection to the database."
        return (
            Metric("flushes_total", "Flushes of events.", flusher.count, counter),
            Metric("flush_seconds_total", "What they took together.", flusher.seconds, counter),
            Metric("flush_window_seconds", window, flusher.window),
            Metric("bell_lag_seconds", lag, await self._lag()),
            Metric("database_connections", "Open connections.", pool.get("pool_size", 0)),
            Metric("database_connections_waited_for", waiting, pool.get("requests_waiting", 0)),
        )

    async def _lag(self) -> float:
        bells = self._events.bells
        channel = f"{_CHANNEL}_{token_hex(8)}"  # No other process listens to it.
        rung = asyncio.Event()
        await bells.listened(channel, lambda _: rung.set())
        began = time.perf_counter()  # The time of a loop may count milliseconds only.
        try:
            bells.ring(channel)
            async with asyncio.timeout(_PATIENCE):
                await rung.wait()
        except TimeoutError:
            return math.nan
        finally:
            bells.ignore(channel)
        return time.perf_counter() - began
