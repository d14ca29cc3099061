"""Which sessions each principal has."""

from __future__ import annotations


class Sessions:
    """The ids of each principal's sessions, the least recently used one first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[str, dict[str, None]] = {}

    def used(self, principal_id: str, session_id: str) -> str | None:
        """Note a use of the session; the one to end where there are too many."""
        sessions = self._of.setdefault(principal_id, {})
        sessions.pop(session_id, None)
        sessions[session_id] = None
        if len(sessions) <= self._most:
            return None
        oldest = next(iter(sessions))
        del sessions[oldest]
        return oldest

    def forget(self, principal_id: str, session_id: str) -> None:
        sessions = self._of.get(principal_id, {})
        sessions.pop(session_id, None)
        if not sessions:
            self._of.pop(principal_id, None)
