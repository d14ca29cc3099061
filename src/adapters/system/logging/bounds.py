"""Limits how many log lines of one kind are written and counts the omitted ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from ....domain.bounded_logs import KIND

logger = logging.getLogger(__name__)

PERIOD = 60.0
"""Seconds."""
BURST = 10
"""Lines of one kind per period; one line if lines were omitted in the previous period."""
_MAX_KINDS = 64
_OTHER_KINDS = "other"
_LIBRARIES = ("asyncio", "hypercorn.error", "quart", "quart.app", "quart.serving")
"""Loggers whose warnings have no `kind`; the start of the text serves as their kind."""
_MAX_KIND_LENGTH = 80
_DECISION = "bounded_admitted"
"""Record attribute that holds the decision, so that all handlers apply the same one."""
ATTRIBUTES = frozenset({KIND, _DECISION})
"""Record attributes that only this module uses."""


@dataclass(slots=True)
class _Period:
    """The counters of one kind since `began`."""

    began: float
    level: int
    allowed: int = BURST
    left_out: int = 0


class LogBounds(logging.Filter):
    """A filter that all handlers of the log share. `now` is a monotonic clock.

    The first line after a period with omitted lines has their number in `left_out`.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self._now = now
        self._periods: dict[str, _Period] = {}
        self._lock = Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        kind = _kind_of(record)
        if kind is None:
            return True
        decided: bool | None = getattr(record, _DECISION, None)
        if decided is None:
            with self._lock:
                decided = self._admit(kind, record)
            setattr(record, _DECISION, decided)
        return decided

    def summarise(self, *, final: bool = False) -> None:
        """Log the number of omitted lines of every period that is over (`final`: of every period).
        Call it once per period, and with `final` when the process ends."""
        with self._lock:
            due = self._end_periods(float("-inf") if final else PERIOD)
        for kind, level, left_out in due:
            extra = {"kind": kind, "left_out": left_out}
            logger.log(level, "similar lines were left out of the log", extra=extra)

    def _admit(self, kind: str, record: logging.LogRecord) -> bool:
        now = self._now()
        if kind not in self._periods and len(self._periods) >= _MAX_KINDS:
            kind = _OTHER_KINDS
        period = self._periods.get(kind)
        if period is None:
            period = self._periods[kind] = _Period(now, record.levelno)
        if now - period.began >= PERIOD:
            if period.left_out:
                record.left_out = period.left_out
            _restart(period, now)
        period.level = max(period.level, record.levelno)
        if period.allowed:
            period.allowed -= 1
            return True
        period.left_out += 1
        return False

    def _end_periods(self, age: float) -> list[tuple[str, int, int]]:
        """End the periods of at least that age; the kind, level and number of omitted lines."""
        now = self._now()
        over = [(k, p) for k, p in self._periods.items() if now - p.began >= age]
        due = []
        for kind, period in over:
            if period.left_out:
                due.append((kind, period.level, period.left_out))
                _restart(period, now)
            else:
                del self._periods[kind]
        return due


def _restart(period: _Period, now: float) -> None:
    period.allowed = 1 if period.left_out else BURST
    period.began, period.left_out = now, 0


def _kind_of(record: logging.LogRecord) -> str | None:
    """The kind of a record; None if it is not limited."""
    kind: str | None = getattr(record, KIND, None)
    if kind is None and record.levelno >= logging.WARNING and record.name in _LIBRARIES:
        return f"{record.name}: {str(record.msg).partition(chr(10))[0][:_MAX_KIND_LENGTH]}"
    return kind
