"""Runs that wait and are executed by any number of processes, ordered by one database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .....domain.concurrency import shielded
from .....domain.ports import RunCounts
from .....domain.runs import Claim, RunSpec
from .....domain.sessions import SessionKey
from .....domain.settings import LaneSettings
from ..availability import MOST_OUTAGE
from ..nodes import PostgresNodes
from .accepting import Accepting
from .bells import JOINED, Bells
from .changes import Changes
from .claims import Claims
from .endings import Endings
from .process import Process, load_spec
from .reads import count_runs, unfinished_runs
from .run_events import PostgresRunEvents
from .signals import Signals
from .watchers import PostgresWatchers

LEASE_SECONDS = 10.0

T = TypeVar("T")


class PostgresQueue:
    """A RunQueue and RunSignals beside the PostgresRunEvents of the same process.

    A Run that comes to its turn at once is leased to this process in the transaction that accepts
    it, where a slot is free. Leases end by the database's clock, `lease` seconds after they were
    renewed. `limits.max_concurrent` and `max_subagents` are those of this process, the others of
    all. `works`: it executes Runs, and not only commands. `nodes`: which other processes are alive;
    without it none counts as dead.

    The owners of `serve` must be random for each process: another process of the same name would
    renew the leases of a dead one.
    """

    def __init__(
        self,
        events: PostgresRunEvents,
        *,
        limits: Callable[[], LaneSettings],
        lease: float = LEASE_SECONDS,
        works: bool = True,
        nodes: PostgresNodes | None = None,
    ) -> None:
        self._events = events
        node = secrets.token_hex(16) if nodes is None else nodes.id
        self._process = process = Process(
            events,
            limits=limits,
            lease=lease,
            works=works,
            node=node,
            unable=lambda: () if nodes is None else nodes.unable,
            lacking=lambda agent_id: "" if nodes is None else nodes.lacking(agent_id),
        )
        self._signals = signals = Signals(process)
        self._endings = endings = Endings(process, signals)
        self._claims = claims = Claims(process, signals, endings)
        self._accepting = Accepting(process, claims, signals)
        self.watchers = PostgresWatchers(process, signals, nodes)
        if nodes is not None:
            _note_others(events.bells, nodes)
        self._changes = Changes(
            events.database,
            owner=process.node,
            lease=lease,
            limits=limits,
            settled=process.settled,
        )
        process.on_change = self._changes.look
        events.bells.on_again.append(self._look_soon)
        events.on_look.append(self.look)
        events.on_close.append(self.close)
        # The methods of the ports that are one part's own.
        self.enqueue = self._accepting.enqueue
        self.serve = claims.serve
        self.withdraw = claims.withdraw
        self.renew = claims.renew
        self.finish = endings.finish
        self.wait = endings.wait
        self.hand_back = endings.hand_back
        self.abort = signals.abort
        self.resolve = signals.resolve
        self.inject = signals.inject

    @property
    def lease(self) -> float:
        """Seconds that a claim holds without being renewed."""
        return self._process.lease

    @property
    def outage(self) -> float:
        """Seconds for which Runs go on while the database cannot be reached."""
        return MOST_OUTAGE

    @property
    def slots_used(self) -> int:
        return self._process.slots.used

    async def counts(self) -> RunCounts:
        return await count_runs(self._events.database)

    async def unfinished(
        self, key: SessionKey | None = None, *, waiting: bool = True, here: bool = False
    ) -> tuple[RunSpec, ...]:
        """Of commands those of this process: other processes have no specs of theirs."""
        if here:
            claims = [run.held_claim for run in self._process.held]
            return tuple(
                claim.spec for claim in claims if key is None or claim.spec.session_key == key
            )
        stored = await unfinished_runs(
            self._events.database, None if key is None else str(key), waiting=waiting
        )
        specs = []
        for one in stored:
            run = self._process.held.get(one.record.id)
            if run is not None and run.claim is not None:
                specs.append(run.claim.spec)
            elif one.lane is not None:
                specs.append(load_spec(one))
        return tuple(specs)

    async def expired(self, owner: str, *, go_on: bool = True) -> tuple[Claim, ...]:
        """There are none: workers get those of dead processes as new attempts, when the leases have
        expired."""
        return ()

    async def exclusive(
        self,
        key: SessionKey,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        patience: float,
        stop: str | None = None,
    ) -> T:
        async with self._changes.place(key) as place:
            if stop is not None:
                for spec in reversed(await self.unfinished(key)):
                    if spec.command is None:
                        await self.abort(spec.id, stop)
            await place.turn(patience)
            place.works = True
            # The lane is free once the work is done, not when its caller has stopped waiting.
            task = asyncio.create_task(place.do(work), name=f"change of session {key}")
            self._process.add_task(task)
        return await shielded(task)

    # The end

    def refuse(self) -> None:
        self._process.refusing = True

    async def idle(self) -> None:
        """Return once no Run is executed here."""
        held = self._process.held
        while self._accepting.in_progress or any(True for _ in held):
            await self._accepting.done()
            await held.idle()

    async def close(self) -> None:
        """Return once nothing of the queue is under way."""
        self._process.refusing = True
        await self._process.tasks_done()
        await self._claims.claimed()
        await self._process.tasks_done()
        await self._changes.close()

    async def look(self) -> None:
        """Do what lost bells would have caused, and take over Runs whose leases have expired.
        Raises StoreFailed."""
        self._look_soon()
        await self._claims.claimed()
        await self.watchers.look()

    def _look_soon(self) -> None:
        self._changes.look()
        self._claims.soon()


def _note_others(bells: Bells, nodes: PostgresNodes) -> None:
    """Have the bells know when the process is alone. One that joins rings; where that is missed,
    the next heartbeat finds it."""

    def joined(node_id: str) -> None:
        if node_id != nodes.id:
            nodes.is_alone = False

    bells.is_alone = lambda: nodes.is_alone
    bells.hear(JOINED, joined)
    nodes.on_join.append(lambda: bells.ring(JOINED, nodes.id))
