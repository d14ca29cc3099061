"""The runs that are known to have begun, in this process or in another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from .....domain.runs import RunPage, RunQuery, RunRecord

_LISTED: Final = 100
_KNOWN: Final = 2_000


class BegunRuns:
    """Finds the Runs whose announcement by another process was lost, and names each Run once.

    Two lists of the newest Runs are compared, because the clocks of processes differ.
    """

    def __init__(self, list_runs: Callable[[RunQuery], Awaitable[RunPage]]) -> None:
        self._list_runs = list_runs
        self._known: dict[str, None] = {}
        self._listed: frozenset[str] | None = None

    def note(self, run_id: str) -> bool:
        """False if the Run is known."""
        if run_id in self._known:
            return False
        self._known[run_id] = None
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]
        return True

    async def missed(self) -> list[RunRecord]:
        """The unknown Runs that were accepted since the last call, oldest first; none with the
        first call. Raises StoreFailed."""
        page = await self._list_runs(RunQuery(limit=_LISTED))
        before, self._listed = self._listed, frozenset(record.id for record in page.runs)
        if before is None:
            return []
        return [
            record
            for record in reversed(page.runs)
            if record.id not in before and record.id not in self._known
        ]

    def forget_list(self) -> None:
        """Make the next call of `missed` the first one."""
        self._listed = None
