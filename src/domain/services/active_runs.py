"""The Runs that have not ended, as a principal sees and stops them."""

from __future__ import annotations

from ..access import Action, Principal, Resource, may, require
from ..ports import RunQueue, RunSignals
from ..runs import RunRecord, RunSpec
from ..sessions import SessionKey


def run_resource(run: RunSpec | RunRecord) -> Resource:
    return Resource(run.agent_id, run.principal_id)


class ActiveRuns:
    """Runs that are queued, executed or waiting."""

    def __init__(self, queue: RunQueue, signals: RunSignals) -> None:
        self._queue = queue
        self._signals = signals

    async def of(self, principal: Principal, key: SessionKey | None = None) -> tuple[RunSpec, ...]:
        """The Runs of a Session or all, in their order. Raises Forbidden."""
        require(principal, Action.SEE_RUN)
        runs = await self._queue.unfinished(key)
        if principal.agents is None:
            return runs
        return tuple(run for run in runs if may(principal, Action.SEE_RUN, run_resource(run)))

    async def stop(self, principal: Principal, key: SessionKey, reason: str) -> tuple[str, ...]:
        """Stop every Run of a Session but those of commands, the waiting ones first, so that none
        of them begins. Returns the ids of those that were stopped. Raises Forbidden."""
        require(principal, Action.STOP_RUN)
        runs = [
            run
            for run in reversed(await self._queue.unfinished(key))
            if run.command is None and may(principal, Action.STOP_RUN, run_resource(run))
        ]
        stopped = [run.id for run in runs if await self._signals.abort(run.id, reason)]
        return tuple(reversed(stopped))
