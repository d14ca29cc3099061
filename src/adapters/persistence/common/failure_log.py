"""Logs that a store fails: once for a burst of failures, then with their count."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock

logger = logging.getLogger(__name__)

_EVERY = 60.0
"""Seconds between two lines about one burst."""


class FailureLog:
    """`what` says what fails: "the session store cannot be written". For any thread."""

    def __init__(self, what: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._now = now
        self._lock = Lock()
        self._count = 0
        self._logged_at = 0.0

    def failed(self, reason: object, count: int = 1) -> None:
        """So many operations have failed for that reason."""
        with self._lock:
            first = not self._count
            self._count += count
            now, total = self._now(), self._count
            if not first and now - self._logged_at < _EVERY:
                return
            self._logged_at = now
        logger.error(self._what, extra={"reason": str(reason), "failures": total})

    def succeeded(self) -> None:
        """An operation has succeeded, which ends a burst."""
        if not self._count:  # Without the lock: this is called for every commit.
            return
        with self._lock:
            total, self._count = self._count, 0
        logger.warning("%s: it works again", self._what, extra={"failures": total})
