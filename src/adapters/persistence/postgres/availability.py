"""Whether the database can be reached, as the calls of this process have found."""

from __future__ import annotations

import time

from psycopg import Error, OperationalError

from ....domain.errors import StoreFailed
from ....domain.ports import Clock

MOST_OUTAGE = 60.0
"""Seconds for which Runs go on while the database cannot be reached."""
_RETRY_AFTER = 5.0
_OUTAGE = 1.0
"""Seconds after which a broken connection is an outage of the database."""
_AWAY_STATES = ("08", "57P")
"""How the SQLSTATE codes of broken connections, and of servers that stop or start, begin."""


class DatabaseAway(StoreFailed):
    """The database cannot be reached now."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=_RETRY_AFTER)


def _is_of_connection(error: Exception) -> bool:
    """Whether the connection failed, and not a statement."""
    if isinstance(error, OperationalError):
        return error.sqlstate is None or error.sqlstate.startswith(_AWAY_STATES)
    return isinstance(error, OSError) and not isinstance(error, Error)


class Availability:
    """Updated with each call. `steady`: a clock in seconds that never jumps."""

    def __init__(self, steady: Clock = time.monotonic) -> None:
        self._steady = steady
        self._is_away = False
        self._away_at = self._back_at = self._reached_at = self._outage_until = float("-inf")

    def failed(self, error: Exception, begun_at: float) -> bool:
        """A call that began at that time has failed. Whether that means that the database cannot be
        reached: not where another call has reached it meanwhile."""
        if not _is_of_connection(error) or self._reached_at > begun_at:
            return False
        if not self._is_away:
            self._is_away, self._away_at = True, self._steady()
        return True

    def succeeded(self) -> None:
        """A call has reached the database."""
        self._reached_at = self._steady()
        if self._is_away:
            self._is_away = False
            self._back_at = self._reached_at
            if self._back_at - self._away_at >= _OUTAGE:
                self._outage_until = self._back_at

    def away_within(self, seconds: float) -> bool:
        """Whether it cannot be reached, or could not at some time in the last `seconds`."""
        return self._is_away or self._steady() - self._back_at < seconds

    def outage_within(self, seconds: float) -> bool:
        """The same, but for connections that broke and were replaced at once."""
        return self._is_away or self._steady() - self._outage_until < seconds
