"""A ring buffer of the newest log records, served by `logs.tail`."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from logging import makeLogRecord
from typing import Any

from .lines import formatter

CAPACITY = 5_000
"""Lines."""


@dataclass(frozen=True, slots=True)
class Tail:
    """JSON lines in chronological order. `cursor`: for the next call.

    `truncated`: earlier lines were omitted; `reset`: the given cursor was of another process.
    """

    lines: tuple[str, ...]
    cursor: int
    truncated: bool = False
    reset: bool = False


_OMITTED = frozenset(makeLogRecord({}).__dict__) - {
    "name",
    "levelno",
    "created",
    "msg",
    "args",
    "stack_info",
}
"""Record attributes that no line shows; they make up half of a record's memory."""


class LogRing(logging.Handler):
    """Stores the attributes of records and formats them only on request: most are never read."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self._records: deque[dict[str, Any] | str] = deque(maxlen=capacity)
        self._count = 0
        self.setFormatter(formatter("wire", colours=False))

    def emit(self, record: logging.LogRecord) -> None:
        # Format at once: a stored exception would keep the objects of its whole stack alive.
        stored = self.format(record) if record.exc_info else _stored(record)
        self._records.append(stored)
        self._count += 1

    def tail(self, cursor: int | None, *, limit: int, max_bytes: int) -> Tail:
        """The lines after `cursor`, or the newest ones; at most `limit` and about `max_bytes`.

        Thread-safe.
        """
        self.acquire()
        try:
            records, count = list(self._records), self._count
        finally:
            self.release()
        reset = cursor is not None and cursor > count
        first = count - len(records)
        start = first if cursor is None or reset else max(cursor, first)
        chosen: list[str] = []
        size = 0
        for record in reversed(records[start - first :]):
            line = record if isinstance(record, str) else self.format(makeLogRecord(record))
            size += len(line) + 1
            if len(chosen) == limit or (size > max_bytes and chosen):
                break
            chosen.append(line)
        left_out = count - len(chosen) > (cursor if cursor and not reset else 0)
        return Tail(tuple(reversed(chosen)), count, left_out, reset)


def _stored(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _OMITTED}
