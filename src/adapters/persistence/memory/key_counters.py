"""Requests per minute and runs at once of API keys, counted in this process's memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from ....domain.ports import Clock, RunAdmission

_MINUTE = 60.0


@dataclass(slots=True)
class _Bucket:
    """Admits as many requests at once as a minute has, and then as fast as it fills."""

    left: float
    at: float

    def fill(self, capacity: int, now: float) -> None:
        self.left = min(capacity, self.left + (now - self.at) * capacity / _MINUTE)
        self.at = now


class MemoryKeyCounters:
    """KeyCounters of one process. `steady` never jumps."""

    def __init__(self, steady: Clock) -> None:
        self._steady = steady
        self._buckets: dict[str, _Bucket] = {}
        self._runs: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """By key its runs that have neither ended nor wait for a decision: for each id the requests
        for it, as a repeated one finds the run of the first."""

    async def take(self, key_id: str, per_minute: int) -> float:
        bucket = self._filled(key_id, per_minute)
        if bucket.left < 1:
            return (1 - bucket.left) * _MINUTE / per_minute
        bucket.left -= 1
        return 0.0

    def left(self, key_id: str, per_minute: int) -> float:
        return self._filled(key_id, per_minute).left

    async def begin(
        self, key_id: str, run_id: str, most: int | None, *, known: bool
    ) -> RunAdmission:
        runs = self._runs[key_id]
        if known or run_id in runs:
            if run_id in runs:
                runs[run_id] += 1
            return RunAdmission.KNOWN
        if most is not None and len(runs) >= most:
            return RunAdmission.FULL
        runs[run_id] = 1
        return RunAdmission.NEW

    def release(self, key_id: str, run_id: str) -> None:
        runs = self._runs[key_id]
        if run_id in runs:
            runs[run_id] -= 1
            if not runs[run_id]:
                del runs[run_id]

    def stopped(self, key_id: str, run_id: str) -> None:
        self._runs[key_id].pop(run_id, None)

    def running(self, key_id: str) -> int:
        return len(self._runs[key_id])

    async def flush(self) -> None:
        """Nothing is pending."""

    def _filled(self, key_id: str, per_minute: int) -> _Bucket:
        now = self._steady()
        bucket = self._buckets.get(key_id)
        if bucket is None:
            bucket = self._buckets[key_id] = _Bucket(per_minute, now)
        bucket.fill(per_minute, now)
        return bucket
