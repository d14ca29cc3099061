"""The newest lines of the log in memory, for clients that ask for them."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from logging import makeLogRecord
from typing import Any

from .lines import formatter

KEPT = 5_000
"""Lines."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Some lines of JSON, oldest first. `cursor`: where the next call goes on.

    `truncated`: lines before these were left out; `reset`: the cursor was from another process.
    """

    lines: tuple[str, ...]
    cursor: int
    truncated: bool = False
    reset: bool = False


_UNTOLD = frozenset(makeLogRecord({}).__dict__) - {
    "name",
    "levelno",
    "created",
    "msg",
    "args",
    "stack_info",
}
"""Of every record, and in no line: half of what a record takes."""


class LogRing(logging.Handler):
    """Keeps what records tell, and makes text of it only when somebody asks: most is never looked
    at."""

    def __init__(self, kept: int = KEPT) -> None:
        super().__init__()
        self._records: deque[dict[str, Any] | str] = deque(maxlen=kept)
        self._count = 0
        self.setFormatter(formatter("wire", colours=False))

    def emit(self, record: logging.LogRecord) -> None:
        # An error would keep its whole stack alive.
        told = self.format(record) if record.exc_info else _told(record)
        self._records.append(told)
        self._count += 1

    def tail(self, cursor: int | None, *, limit: int, max_bytes: int) -> Tail:
        """The lines behind `cursor`, or the newest ones; at most `limit` and about `max_bytes`.

        May be called in any thread, while others log.
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


def _told(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _UNTOLD}
