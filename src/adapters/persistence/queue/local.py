"""Runs that wait and are executed in one process, by one executor or by several."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from ....domain.concurrency import shielded
from ....domain.errors import LeaseLost, RunAborted, SessionBusy, ShuttingDown
from ....domain.messages import Message
from ....domain.ports import Clock, RunCounts, Worker
from ....domain.runs import (
    Aborted,
    ApprovalDecided,
    Claim,
    Failed,
    Finished,
    MessageInjected,
    OnLeave,
    RunRecord,
    RunSpec,
    RunStatus,
    Signal,
    Submission,
    Waiting,
    record_of,
)
from ....domain.sessions import SessionKey
from .lanes import Lanes, Place
from .rows import KeptSpec, RunRows

LEASE_SECONDS = 30.0
_DEEPEST = 8
"""Sub-agents that are nested deeper share their slots with those of this depth."""
PARENT_ENDED = "The run that started it has ended."

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Server:
    """An owner that takes claims."""

    owner: str
    worker: Worker
    silent: bool = False
    """One of its leases has expired, and it has renewed none since."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A Run without a terminal event."""

    spec: RunSpec
    place: Place | None
    """Its place in its Session's lane; None while it waits for a signal."""
    queued_at: float
    on_release: Callable[[], None] | None = None
    claim: Claim | None = None
    server: _Server | None = None
    """Who holds the claim."""
    expires: float = 0.0
    attempt: int = 0
    lost: int = 0
    taken_over: bool = False
    """The attempt before the next one was lost."""
    signals: list[Signal] = field(default_factory=list)
    """Those that no attempt has dealt with."""
    abort_reason: str | None = None
    """Its owner was asked to stop it; an owner that is dead does not."""


class LocalQueue:
    """A RunQueue and RunSignals over the RunEvents of the same process.

    `lease`: seconds that a claim holds without being renewed, by the clock `steady`; `clock` is for
    records. What happens here happens without suspension, except where an id is reserved on disk.
    """

    def __init__(
        self,
        *,
        rows: RunRows,
        lanes: Lanes,
        clock: Clock,
        steady: Clock = time.monotonic,
        lease: float = LEASE_SECONDS,
    ) -> None:
        self._rows = rows
        self._lanes = lanes
        self._nested: dict[int, Lanes] = {}
        """Of sub-agents, by their depth."""
        self._children: dict[str, set[str]] = {}
        """The Runs that work for another one, by its id."""
        self._clock = clock
        self._steady = steady
        self._lease = lease
        self._entries: dict[str, _Entry] = {}
        self._servers: dict[str, _Server] = {}
        self._unclaimed: list[_Entry] = []
        """Runs whose turn has come while nobody serves."""
        self._changes: set[asyncio.Task[Any]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
        self._idle: asyncio.Event | None = None
        self._refusing = False

    @property
    def lease(self) -> float:
        """Seconds that a claim holds without being renewed."""
        return self._lease

    @property
    def outage(self) -> float:
        """Seconds for which Runs go on while the queue cannot be reached."""
        return 0.0

    def __len__(self) -> int:
        return len(self._entries)

    async def counts(self) -> RunCounts:
        lanes = (self._lanes, *self._nested.values())
        heads = sum(one.heads for one in lanes)
        return RunCounts(
            waiting=heads,
            queued=sum(one.waiting for one in lanes) - heads,
            running=sum(entry.claim is not None for entry in self._entries.values()),
            paused=sum(e.place is None and e.claim is None for e in self._entries.values()),
        )

    # Accepting

    async def enqueue(
        self,
        spec: RunSpec,
        *,
        fingerprint: str = "",
        once: bool = False,
        on_release: Callable[[], None] | None = None,
    ) -> Submission:
        record = record_of(spec, fingerprint=fingerprint)
        if not once:
            self._enter(spec, record, on_release)
            return Submission(record, fresh=True)
        known = await self._rows.reserve(record, None if spec.command else spec)
        if known is not None:
            return Submission(known, fresh=False)
        try:
            self._enter(spec, record, on_release)
        except BaseException:
            await self._rows.release(spec.id)
            raise
        return Submission(record, fresh=True)

    def _enter(
        self, spec: RunSpec, record: RunRecord, on_release: Callable[[], None] | None
    ) -> None:
        if self._refusing:
            problem = "The Gateway is shutting down and takes no more runs."
            raise ShuttingDown(problem, retry_after=1)
        if spec.parent and spec.parent not in self._entries:
            raise RunAborted(PARENT_ENDED)
        place = self._enter_lane(spec)
        try:
            self._rows.open(record)
        except BaseException:
            place.leave()
            raise
        if spec.on_leave is OnLeave.CONTINUE and spec.command is None:
            self._rows.keep(spec)
        entry = _Entry(spec, place, self._steady(), on_release)
        self._add(entry)
        self._await_turn(entry, place)

    def _enter_lane(self, spec: RunSpec) -> Place:
        """A command is alone in its lane and takes no slot, so that it never waits for a Run."""
        if spec.command is not None:
            return self._lanes.enter_to_change(f"command {spec.id}")
        return self._lanes_of(spec.session_key).enter(str(spec.session_key))

    def _add(self, entry: _Entry) -> None:
        self._entries[entry.spec.id] = entry
        if entry.spec.parent:
            self._children.setdefault(entry.spec.parent, set()).add(entry.spec.id)

    def _remove(self, entry: _Entry) -> None:
        spec = entry.spec
        del self._entries[spec.id]
        if spec.parent and (others := self._children.get(spec.parent)) is not None:
            others.discard(spec.id)
            if not others:
                del self._children[spec.parent]

    def _lanes_of(self, key: SessionKey) -> Lanes:
        """Each depth has slots of its own. A Run holds its slot while it waits for its sub-agents,
        so these must not wait for a slot of such Runs."""
        if not key.is_subagent:
            return self._lanes
        depth = min(key.depth, _DEEPEST)
        if depth not in self._nested:
            self._nested[depth] = self._lanes.of_subagents()
        return self._nested[depth]

    def _await_turn(self, entry: _Entry, place: Place) -> None:
        if place.granted:
            self._hand_over(entry)
        else:
            place.on_turn = partial(self._hand_over, entry)

    # Claims

    def serve(self, owner: str, worker: Worker) -> None:
        self._servers[owner] = _Server(owner, worker)
        self._hand_over_unclaimed()

    def withdraw(self, owner: str) -> None:
        self._servers.pop(owner, None)

    async def renew(self, owner: str, claims: Sequence[Claim]) -> Sequence[Claim]:
        server = self._servers.get(owner)
        if server is not None and server.silent:
            server.silent = False
            self._hand_over_unclaimed()
        lost = []
        for claim in claims:
            entry = self._entries.get(claim.spec.id)
            if entry is None or not _holds(entry, claim):
                lost.append(claim)
            else:
                entry.expires = self._steady() + self._lease
                self._rows.lease(claim, self._clock() + self._lease)
        return lost

    async def finish(self, claim: Claim, ending: Finished | Failed | Aborted) -> None:
        self._end(self._held(claim), ending)

    async def wait(self, claim: Claim, waiting: Waiting, *, signals_read: int) -> None:
        entry = self._held(claim)
        entry.claim = entry.server = None
        del entry.signals[:signals_read]
        self._rows.keep(entry.spec)  # Whoever asked for the Run may have left by now.
        self._rows.put(entry.spec.id, waiting)
        place, entry.place = entry.place, None
        if place is not None:
            place.leave()
        if entry.abort_reason is not None:
            self._end(entry, Aborted(entry.abort_reason))
            return
        self._release(entry)
        if entry.signals:
            self._requeue(entry)
        self._note_idle()

    async def hand_back(self, run_id: str) -> bool:
        entry = self._entries.get(run_id)
        if entry is None or entry.abort_reason is not None or not self._rows.hand_back(run_id):
            return False
        self._remove(entry)
        if entry in self._unclaimed:
            self._unclaimed.remove(entry)
        if entry.place is not None:
            entry.place.leave()
        self._release(entry)
        self._note_idle()
        return True

    async def unfinished(
        self, key: SessionKey | None = None, *, waiting: bool = True, here: bool = False
    ) -> tuple[RunSpec, ...]:
        return tuple(
            entry.spec
            for entry in self._entries.values()
            if (key is None or entry.spec.session_key == key)
            and (waiting or entry.place is not None)
        )

    async def expired(self, owner: str, *, go_on: bool = True) -> tuple[Claim, ...]:
        claims, going_on = [], []
        records = await self._rows.unfinished()
        specs = {record.id: self._rows.kept_spec(record.id) for record in records}
        for record in records:
            kept = specs[record.id] if _goes_on(record.id, specs) else None
            waits = record.status is RunStatus.WAITING
            if kept is not None and not go_on:
                if not waits:
                    self._rows.hand_back(record.id)
                continue
            spec = _spec_of(record) if kept is None else kept.spec
            # The last claim of a process that died at once may be missing in the record.
            attempt = max(record.attempt, 1)
            entry = _Entry(spec, None, self._steady(), attempt=attempt, taken_over=True)
            entry.lost = 1 if kept is None else kept.lost
            self._add(entry)
            if kept is None:
                claims.append(self._claim(entry, owner))
            elif waits:
                entry.taken_over = False
            else:
                going_on.append(entry)
        for entry in going_on:
            self._enter_again(entry)
        return tuple(claims)

    def _hand_over(self, entry: _Entry, *, but: _Server | None = None) -> None:
        """Give the Run to an owner; it waits for one where there is none."""
        server = self._choose(but)
        if server is None:
            if entry.claim is not None:
                self._rows.requeue(entry.spec.id)  # The fence is up, though nobody has it yet.
            entry.claim = entry.server = None
            self._unclaimed.append(entry)
            return
        claim = self._claim(entry, server.owner)
        entry.server = server
        server.worker.take(claim)

    def _hand_over_unclaimed(self) -> None:
        unclaimed, self._unclaimed = self._unclaimed, []
        for entry in unclaimed:
            self._hand_over(entry)

    def _choose(self, but: _Server | None) -> _Server | None:
        """The owner that has waited longest for a claim, another than `but` where possible."""
        for owner, server in self._servers.items():
            if server is not but and not server.silent:
                if len(self._servers) > 1:
                    self._servers[owner] = self._servers.pop(owner)
                return server
        return but if but is not None and not but.silent else None

    def _claim(self, entry: _Entry, owner: str) -> Claim:
        now = self._steady()
        entry.attempt += 1
        claim = entry.claim = Claim(
            entry.spec,
            owner,
            entry.attempt,
            self._clock() + self._lease,
            now - entry.queued_at,
            entry.lost,
            entry.taken_over,
            tuple(entry.signals),
        )
        entry.taken_over = False
        entry.expires = now + self._lease
        self._rows.lease(claim, claim.lease_until)
        if self._sweep is None:
            self._plan_sweep()
        return claim

    def _held(self, claim: Claim) -> _Entry:
        """The Run that the claim is for. Raises LeaseLost."""
        entry = self._entries.get(claim.spec.id)
        if entry is None or not _holds(entry, claim):
            raise LeaseLost(f"The lease of run {claim.spec.id!r} was lost.")
        return entry

    def _end(self, entry: _Entry, ending: Finished | Failed | Aborted) -> None:
        run_id = entry.spec.id
        self._remove(entry)
        if entry.place is not None:
            entry.place.leave()
        self._release(entry)
        self._note_idle()
        self._rows.put(run_id, ending)
        if self._children:
            self._abort_children(run_id)

    def _abort_children(self, run_id: str) -> None:
        for child in sorted(self._children.get(run_id, ())):
            self._abort(self._entries[child], PARENT_ENDED)

    def _release(self, entry: _Entry) -> None:
        released, entry.on_release = entry.on_release, None
        if released is not None:
            released()

    # Leases

    def _plan_sweep(self) -> None:
        """Look at the leases after a third of their time. The timer is not cancelled when there is
        no claim left, since the next one comes soon."""
        loop = asyncio.get_running_loop()
        self._sweep_due = loop.time() + self._lease / 3
        self._sweep = loop.call_at(self._sweep_due, self._look_at_leases, context=Context())

    def _look_at_leases(self) -> None:
        self._sweep = None
        late = asyncio.get_running_loop().time() - self._sweep_due
        if late < self._lease / 3:  # Else nobody in this process was able to renew anything.
            self.take_over_expired()
        if any(entry.claim is not None for entry in self._entries.values()):
            self._plan_sweep()

    def take_over_expired(self) -> None:
        """Hand the Runs whose leases have expired to other owners."""
        now = self._steady()
        for entry in tuple(self._entries.values()):
            if entry.claim is not None and entry.expires <= now:
                self._take_over(entry)

    def _take_over(self, entry: _Entry) -> None:
        server = entry.server
        if server is not None:
            server.silent = True
        if entry.abort_reason is not None:
            self._close(entry, Aborted(entry.abort_reason))
        else:
            entry.lost += 1
            entry.taken_over = True
            self._hand_over(entry, but=server)

    # Signals

    async def abort(self, run_id: str, reason: str) -> bool:
        entry = self._entries.get(run_id)
        return entry is not None and self._abort(entry, reason)

    async def resolve(self, run_id: str, approval_id: str, decision: str) -> bool:
        return self._signal(run_id, ApprovalDecided(approval_id, decision))

    async def inject(self, run_id: str, message: Message) -> bool:
        return self._signal(run_id, MessageInjected(message))

    def _abort(self, entry: _Entry, reason: str) -> bool:
        if entry.server is not None:
            stopped = entry.server.worker.abort(entry.spec.id, reason)
            if stopped:
                entry.abort_reason = reason
            return stopped
        if entry in self._unclaimed:
            self._unclaimed.remove(entry)
        self._close(entry, Aborted(reason))
        return True

    def _close(self, entry: _Entry, ending: Aborted) -> None:
        """End a Run that nobody has (any more)."""
        server = self._choose(entry.server)
        if server is not None and entry.attempt:
            server.worker.closed(entry.spec, ending)
        self._end(entry, ending)

    def _signal(self, run_id: str, signal: Signal) -> bool:
        entry = self._entries.get(run_id)
        if entry is None or (self._refusing and entry.place is None):
            return False  # It goes on when the Gateway is started again.
        entry.signals.append(signal)
        if entry.server is not None:
            entry.server.worker.deliver(run_id, signal)
        elif entry.place is None:
            self._requeue(entry)
        return True

    def _requeue(self, entry: _Entry) -> None:
        """Queue a Run that waited for a signal, behind the others of its Session."""
        self._rows.requeue(entry.spec.id)
        entry.queued_at = self._steady()
        if self._idle is not None:
            self._idle.clear()
        self._enter_again(entry)

    def _enter_again(self, entry: _Entry) -> None:
        key = entry.spec.session_key
        entry.place = self._lanes_of(key).enter_again(str(key))
        self._await_turn(entry, entry.place)

    # Sessions

    async def exclusive(
        self,
        key: SessionKey,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        patience: float,
        stop: str | None = None,
    ) -> T:
        place = self._lanes_of(key).enter_to_change(str(key))
        try:
            if stop is not None:
                for entry in reversed(tuple(self._entries.values())):
                    if entry.spec.session_key == key and entry.spec.command is None:
                        self._abort(entry, stop)
            async with asyncio.timeout(patience):
                await place.turn()
            task = asyncio.create_task(work(), name=f"change of session {key}")
        except TimeoutError:
            place.leave()
            raise SessionBusy(
                f"Session {key} is still active; try again in a moment.", retry_after=patience
            ) from None
        except BaseException:
            place.leave()
            raise
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        # The lane is free once the work is done, not when its caller has stopped waiting.
        task.add_done_callback(lambda _: place.leave())
        return await shielded(task)

    # The end

    def refuse(self) -> None:
        self._refusing = True

    async def idle(self) -> None:
        self._idle = self._idle or asyncio.Event()
        self._note_idle()
        if any(entry.place is not None for entry in self._entries.values()):
            self._idle.clear()
            await self._idle.wait()

    def _note_idle(self) -> None:
        if self._idle is not None and all(e.place is None for e in self._entries.values()):
            self._idle.set()


def _holds(entry: _Entry, claim: Claim) -> bool:
    own = entry.claim
    return own is not None and own.owner == claim.owner and own.attempt == claim.attempt


def _goes_on(run_id: str, specs: Mapping[str, KeptSpec | None]) -> bool:
    """Whether the spec of the Run is kept, and the Run that it works for goes on."""
    kept = specs.get(run_id)
    if kept is None:
        return False
    return not kept.spec.parent or _goes_on(kept.spec.parent, specs)


def _spec_of(record: RunRecord) -> RunSpec:
    """What is known of a Run whose spec is gone with its process."""
    return RunSpec(
        id=record.id,
        agent_id=record.agent_id,
        session_key=record.session_key,
        principal_id=record.principal_id,
        messages=(),
        on_leave=record.on_leave,
        accepted_at=record.accepted_at,
        source=record.source,
    )
