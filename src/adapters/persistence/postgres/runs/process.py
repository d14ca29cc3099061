"""What the parts of a PostgresQueue share: this process, as far as it executes Runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from .....domain.errors import GatewayError
from .....domain.runs import RunSpec
from .....domain.settings import LaneSettings
from ...common import Undecodable
from ..availability import MOST_OUTAGE
from .bells import READY, owner_channel
from .held import HeldRun, Server
from .rows import StoredRun, spec_of
from .run_events import PostgresRunEvents
from .slots import DEEPEST, Slots

logger = logging.getLogger(__name__)


MOST_ACCEPTED = 10_000
_OUTAGE_AT_END = 5.0


class Process:
    """The owners, slots and held Runs of this process. `works`: it executes Runs, and not only
    commands. `on_ready` and `on_change` are called when a Run may be claimed here, and when a
    change of a Session may have its turn. `node`: names it among all processes that have ever
    run. `unable`: the agents that it cannot execute. `lacking`: why no process can execute an
    agent; "" where one can."""

    def __init__(
        self,
        events: PostgresRunEvents,
        *,
        limits: Callable[[], LaneSettings],
        lease: float,
        works: bool,
        node: str,
        unable: Callable[[], Collection[str]],
        lacking: Callable[[str], str],
    ) -> None:
        self.events = events
        self.database = events.database
        self.held = events.held
        self.bells = events.bells
        self.flusher = events.flusher
        self.steady = events.steady
        self.lease = lease
        self.works = works
        self.slots = Slots(limits)
        self.node = node
        self.unable = unable
        self.lacking = lacking
        self.servers: dict[str, Server] = {}
        self.more = False
        """There may be ready Runs for which no slot was free here."""
        self.refusing = False
        self.accepted: dict[str, None] = {}
        """The ids of Runs that were accepted here and end with their last follower, oldest first:
        at most MOST_ACCEPTED, since a Run that nobody follows stays here."""
        self.on_ready: Callable[[], None] = _nothing
        self.on_change: Callable[[], None] = _nothing
        self._beside: set[asyncio.Task[Any]] = set()

    def choose(self) -> Server | None:
        """The owner that has waited longest for a claim."""
        for owner, server in self.servers.items():
            if not server.silent:
                if len(self.servers) > 1:
                    self.servers[owner] = self.servers.pop(owner)
                return server
        return None

    def note_accepted(self, run_id: str) -> None:
        self.accepted[run_id] = None
        if len(self.accepted) > MOST_ACCEPTED:
            del self.accepted[next(iter(self.accepted))]

    def give_back(self, depth: int) -> None:
        """A slot is free again."""
        self.slots.give_back(depth)
        if self.more:
            self.on_ready()

    def ready(self) -> None:
        """A Run is to be claimed: here where a slot is free, else elsewhere."""
        if self.works and self.choose() is not None and any(self.slots.free()):
            self.on_ready()
        else:
            self.more = True
        self.bells.ring(READY, self.node)

    def settled(self, next_turn: str) -> None:
        """Have the next in a lane begin; `next_turn`: what lane_settle has returned."""
        if next_turn == "run":
            self.ready()
        elif next_turn == self.node:
            self.on_change()
        elif next_turn:
            self.bells.ring(owner_channel(next_turn))

    def stop(self, run: HeldRun, reason: str) -> bool:
        """Have the Run's owner in this process stop it."""
        if run.server is None or run.abort_reason is not None:
            return False
        if not run.server.worker.abort(run.run_id, reason):
            return False
        run.abort_reason = reason
        return True

    def gives_up(self, since: float) -> bool:
        """Whether what could not be stored since then, by `steady`, is not tried again: after
        MOST_OUTAGE seconds, and sooner where this process is to end."""
        return self.steady() > since + (_OUTAGE_AT_END if self.refusing else MOST_OUTAGE)

    # Tasks

    def aside(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do the work in a task, which has ended before the queue is closed. Its GatewayError is
        logged."""
        self.add_task(asyncio.create_task(work)).add_done_callback(_report)

    def add_task(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        """The queue is not closed before the task has ended."""
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task

    async def tasks_done(self) -> None:
        while self._beside:
            await asyncio.wait(self._beside)


def depth_of(spec: RunSpec) -> int:
    """Whose slots the Run takes."""
    return min(spec.session_key.depth, DEEPEST)


def load_spec(stored: StoredRun) -> RunSpec:
    """The Run's spec. Where it cannot be read, it is one without messages, as for a Run that cannot
    go on."""
    try:
        return stored.load_spec()
    except Undecodable:
        logger.exception("a stored run cannot be read", extra={"run": stored.record.id})
        return spec_of(stored.record)


def _report(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, GatewayError | Undecodable):
        logger.warning("a task of the run queue failed", extra={"reason": str(error)})
    elif error is not None:
        raise error


def _nothing() -> None:
    """The default of callbacks."""
