"""Runs that wait and are executed by any number of processes, ordered by one database."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from .....domain.concurrency import shielded
from .....domain.errors import (
    GatewayBusy,
    GatewayError,
    RunAborted,
    SessionBusy,
    ShuttingDown,
    StoreFailed,
)
from .....domain.messages import Message
from .....domain.ports import Worker
from .....domain.runs import (
    TERMINAL,
    Aborted,
    ApprovalDecided,
    Claim,
    EventBatch,
    Failed,
    Finished,
    MessageInjected,
    OnLeave,
    RunSpec,
    Signal,
    Submission,
    Waiting,
    record_of,
    status_after,
)
from .....domain.sessions import SessionKey
from .....domain.settings import LaneSettings
from ...common import (
    Undecodable,
    decode_signal,
    encode_events,
    encode_signal,
    encode_spec,
    text,
    woken,
)
from ..columns import data
from .bells import READY, channel_of, owner_channel, session_channel
from .changes import Changes
from .flusher import ring_events
from .held import HeldRun, Server, lease_lost
from .reads import stored_run, unfinished_runs
from .rows import STORED, STORED_OF_RUN, Row, StoredRun, spec_of, stored_of_row
from .run_events import PostgresRunEvents
from .slots import DEEPEST, Slots
from .watches import retrieve

logger = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
PARENT_ENDED = "The run that started it has ended."
_SECONDS_PER_RUN_AHEAD = 5
_FRESH = 0.3
"""A lease that was renewed less than this part of it ago is not renewed again."""
_RETRY_AFTER = 0.2
_ENDING_FOR = 60.0
"""Seconds for which the end of a Run is tried to be stored."""
_ROOM_FOR_END = 200
"""Events that a row has room for beside the last one."""

_SUBMIT = f"""
    SELECT outcome, amount, {STORED_OF_RUN}
    FROM run_submit(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""  # noqa: S608 - no values in it
_CLAIM = f"SELECT {STORED} FROM run_claim(%s, %s, %s)"  # noqa: S608 - the same
_RENEW = "SELECT * FROM run_renew(%s, %s, %s, %s)"
_FINISH = "SELECT * FROM run_finish(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
_WAIT = "SELECT * FROM run_wait(%s, %s, %s, %s, %s, %s, %s, %s, %s)"
_HAND_BACK = "SELECT run_hand_back(%s, %s, %s)"
_ABORT = f"SELECT outcome, next, children, {STORED_OF_RUN} FROM run_abort(%s, %s, %s, %s)"  # noqa: S608
_SIGNAL = "SELECT * FROM run_signal(%s, %s)"
_SIGNALS = "SELECT run, id, body FROM signals WHERE run = ANY(%s) ORDER BY id"
_CALLED = "SELECT abort_reason FROM runs WHERE id = %s AND owner = %s AND attempt = %s"
_ORPHANS = """
    SELECT r.id FROM runs r WHERE r.parent IS NOT NULL AND r.state <> 'ended'
        AND NOT EXISTS (SELECT FROM runs p WHERE p.id = r.parent AND p.state <> 'ended')"""

T = TypeVar("T")


class PostgresQueue:
    """A RunQueue and RunSignals beside the PostgresRunEvents of the same process.

    A Run that comes to its turn at once is leased to this process in the transaction that accepts
    it, where a slot is free. Leases end by the database's clock, `lease` seconds after they were
    renewed. `limits.max_concurrent` and `max_subagents` are those of this process, the others of
    all. `works`: it executes Runs, and not only commands.

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
    ) -> None:
        self._events = events
        self._database = events.database
        self._held = events.held
        self._bells = events.bells
        self._flusher = events.flusher
        self._steady = events.steady
        self._lease = lease
        self._works = works
        self._slots = Slots(limits)
        self._node = secrets.token_hex(16)
        self._servers: dict[str, Server] = {}
        self._claiming: asyncio.Task[None] | None = None
        self._claim_again = False
        self._more = False
        """Runs may be ready that found no slot here."""
        self._entering = 0
        self._entered: set[asyncio.Future[None]] = set()
        self._beside: set[asyncio.Task[Any]] = set()
        self._refusing = False
        self._changes = Changes(
            self._database, owner=self._node, lease=lease, limits=limits, settled=self._settled
        )
        self._bells.hear(owner_channel(self._node), lambda _: self._changes.look())
        self._bells.on_again.append(self._look_soon)
        events.on_look.append(self.look)
        events.on_close.append(self.close)

    @property
    def lease(self) -> float:
        """Seconds that a claim holds without being renewed."""
        return self._lease

    @property
    def slots_used(self) -> int:
        return self._slots.used

    # Accepting

    async def enqueue(
        self,
        spec: RunSpec,
        *,
        fingerprint: str = "",
        once: bool = False,
        on_release: Callable[[], None] | None = None,
    ) -> Submission:
        entering = asyncio.create_task(self._enter(spec, fingerprint, once, on_release))
        entering.add_done_callback(retrieve)
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            if not once:  # Whoever repeats the request gets the Run otherwise.
                self._aside(self._abandon(entering))
            raise

    async def _abandon(self, entering: asyncio.Task[Submission]) -> None:
        submission = await entering
        await self.abort(submission.record.id, "The client left.")

    async def _enter(
        self,
        spec: RunSpec,
        fingerprint: str,
        once: bool,
        on_release: Callable[[], None] | None,
    ) -> Submission:
        if self._refusing:
            known = await self._events.find(spec.id) if once else None
            if known is not None:
                return Submission(known, fresh=False)
            raise ShuttingDown("The Gateway is shutting down and takes no more runs.")
        depth = _depth_of(spec)
        server = self._choose() if self._works or spec.command is not None else None
        if spec.command is not None:
            if server is None:
                raise GatewayBusy("Nothing in this process carries out commands.", retry_after=1)
        elif server is not None and not self._slots.free()[depth]:
            if self._claiming is not None:  # It has taken the slots that are free, for a moment.
                await asyncio.wait((self._claiming,))
            if not self._slots.free()[depth]:
                server = None
        if server is not None and spec.command is None:
            self._slots.take(depth)
        since = self._steady()
        self._entering += 1
        held = False
        try:
            row = await self._submit(spec, fingerprint, None if server is None else server.owner)
            outcome, amount = row[:2]
            self._check(spec, outcome, amount, once)
            stored = stored_of_row(row[2:])
            if outcome == "known":
                here = self._held.get(spec.id)
                return Submission(stored.record if here is None else here.record, fresh=False)
            if server is not None and (stored.state, stored.record.owner) == (
                "held",
                server.owner,
            ):
                held = True
                self._take(stored, spec, server, since, accepted=on_release, here=True)
            else:
                if on_release is not None:
                    on_release()
                if stored.state == "ready":
                    self._ready()
            return Submission(record_of(spec, fingerprint=fingerprint), fresh=True)
        finally:
            self._entering -= 1
            if not held and server is not None and spec.command is None:
                self._give_back(depth)
            self._note_idle()

    async def _submit(self, spec: RunSpec, fingerprint: str, owner: str | None) -> Row:
        key = data(str(spec.session_key))
        command = spec.command is not None
        limits = self._slots.limits
        values = (
            data(spec.id),
            secrets.randbits(62),
            key,
            data(spec.agent_id),
            data(spec.principal_id),
            data(spec.source),
            str(spec.on_leave),
            data(fingerprint),
            spec.accepted_at,
            None if command else encode_spec(spec),
            data(spec.parent) if spec.parent else None,
            _depth_of(spec),
            None if command else key,
            owner,
            self._lease,
            limits.max_waiting,
            limits.max_queued,
        )
        (row,) = await self._database.rows(_SUBMIT, values)
        return row

    def _check(self, spec: RunSpec, outcome: str, amount: int, once: bool) -> None:
        """Raises what refuses the Run."""
        limits = self._slots.limits
        if outcome == "parent_ended":
            raise RunAborted(PARENT_ENDED)
        if outcome == "session_busy":
            raise SessionBusy(
                f"The session {str(spec.session_key)!r} is busy: {amount} runs are in its queue "
                f"(agents.defaults.maxWaiting is {limits.max_waiting}); "
                f"this one would be number {amount} in the queue.",
                retry_after=_SECONDS_PER_RUN_AHEAD * amount,
            )
        if outcome == "gateway_busy":
            raise GatewayBusy(
                f"The Gateway is busy: {amount} runs are waiting "
                f"(agents.defaults.maxQueued is {limits.max_queued}).",
                retry_after=_SECONDS_PER_RUN_AHEAD,
            )
        if outcome == "known" and not once:
            raise ValueError(f"run {spec.id!r} has a log already")

    # Claims

    def serve(self, owner: str, worker: Worker) -> None:
        self._servers[owner] = Server(owner, worker)
        self._bells.hear(owner_channel(owner), self._called)
        if self._works:
            self._bells.hear(READY, self._heard_ready)
        if self._events.is_open:
            self._claim_soon()

    def withdraw(self, owner: str) -> None:
        self._servers.pop(owner, None)

    def _choose(self) -> Server | None:
        """The owner that has waited longest for a claim."""
        for owner, server in self._servers.items():
            if not server.silent:
                if len(self._servers) > 1:
                    self._servers[owner] = self._servers.pop(owner)
                return server
        return None

    def _take(
        self,
        stored: StoredRun,
        spec: RunSpec,
        server: Server,
        since: float,
        *,
        signals: Sequence[tuple[int, Signal]] = (),
        accepted: Callable[[], None] | None = None,
        here: bool = False,
    ) -> Claim:
        """The Run is leased to this process since then; its slot was taken."""
        record = stored.record
        waited = max(0.0, (stored.claimed_at or stored.queued_at) - stored.queued_at)
        claim = Claim(
            spec,
            server.owner,
            record.attempt,
            record.lease_until or 0.0,
            waited,
            stored.lost,
            stored.taken_over,
            tuple(signal for _, signal in signals),
        )
        run = self._held.hold(stored, claim, server, since=since)
        run.deadline = since + self._lease
        run.channel = channel_of(data(str(spec.session_key)))
        run.accepted_here = here
        run.signals = [number for number, _ in signals]
        run.abort_reason = stored.abort_reason
        depth = None if stored.lane is None else stored.depth

        def released() -> None:
            if depth is not None:
                self._give_back(depth)
            if accepted is not None:
                accepted()

        run.on_release = released
        if stored.abort_reason is None:
            server.worker.take(claim)
        return claim

    def _give_back(self, depth: int) -> None:
        self._slots.give_back(depth)
        if self._more:
            self._claim_soon()

    def _ready(self) -> None:
        """A Run is to be claimed: here where a slot is free, else elsewhere."""
        if self._works and self._choose() is not None and any(self._slots.free()):
            self._claim_soon()
        else:
            self._more = True
        self._bells.ring(READY, self._node)

    def _heard_ready(self, node: str) -> None:
        if node != self._node:
            self._claim_soon()

    def _look_soon(self) -> None:
        self._changes.look()
        self._claim_soon()

    def _claim_soon(self) -> None:
        if not self._works or self._refusing:
            return
        self._claim_again = True
        if self._claiming is None:
            self._claiming = asyncio.create_task(self._claim_all(), name="claim runs")

    async def _claim_all(self) -> None:
        try:
            while self._claim_again:
                self._claim_again = False
                self._lose_expired()
                await self._claim()
        except StoreFailed as error:
            logger.debug("no runs were claimed", extra={"reason": str(error)})
        finally:
            self._claiming = None

    def _lose_expired(self) -> None:
        """This process was not able to renew these leases: others may have the Runs."""
        now = self._steady()
        for run in tuple(self._held):
            if now > run.deadline and not run.closing:
                if run.server is not None:
                    run.server.silent = True
                self._held.lose(run)

    async def _claim(self) -> None:
        server, free = self._choose(), self._slots.free()
        self._more = not any(free)
        if server is None or self._more or self._refusing:
            return
        for depth, count in enumerate(free):
            self._slots.take(depth, count)
        since = self._steady()
        ending: list[tuple[Claim, Aborted]] = []
        try:
            rows = await self._database.rows(_CLAIM, (server.owner, self._lease, free))
            claimed = [stored_of_row(row) for row in rows]
            signals = await self._signals_of([run for run in claimed if run.last_signal])
        finally:
            for depth, count in enumerate(free):
                self._slots.give_back(depth, count)
        for run in claimed:
            if run.lane is not None:
                self._slots.take(run.depth)
            free[run.depth] -= 1
            spec = _load(run)
            claim = self._take(run, spec, server, since, signals=signals.get(run.number, ()))
            if run.abort_reason is not None:
                ending.append((claim, Aborted(run.abort_reason)))
                server.worker.closed(spec, ending[-1][1])
        self._more = any(count <= 0 for count in free[:1])
        for claim, aborted in ending:
            self._aside(self.finish(claim, aborted))

    async def _signals_of(self, runs: Sequence[StoredRun]) -> dict[int, list[tuple[int, Signal]]]:
        found: dict[int, list[tuple[int, Signal]]] = {}
        if runs:
            rows = await self._database.rows(_SIGNALS, ([run.number for run in runs],))
            for number, signal_id, body in rows:
                if (signal := _load_signal(body)) is not None:
                    found.setdefault(number, []).append((signal_id, signal))
        return found

    async def renew(self, owner: str, claims: Sequence[Claim]) -> Sequence[Claim]:
        server = self._servers.get(owner)
        since = self._steady()
        asked, lost = [], []
        for claim in claims:
            run = self._held.get(claim.spec.id)
            if run is None or run.finished or not _is_held_by(run, claim):
                lost.append(claim)
            elif since - run.renewed_at > self._lease * _FRESH:
                asked.append((claim, run))
        if asked:
            lost += await self._renew(asked, since)
        if server is not None and server.silent:
            server.silent = False
            self._claim_soon()
        return lost

    async def _renew(self, asked: Sequence[tuple[Claim, HeldRun]], since: float) -> list[Claim]:
        values = (
            [data(claim.spec.id) for claim, _ in asked],
            [claim.owner for claim, _ in asked],
            [claim.attempt for claim, _ in asked],
            self._lease,
        )
        async with self._flusher.writing:
            rows = await self._database.rows(_RENEW, values)
        renewed = {(text(row[0]), row[1]): row[2:] for row in rows}
        lost = []
        for claim, run in asked:
            answer = renewed.get((claim.spec.id, claim.attempt))
            if answer is None:
                if not run.finished and not run.closing:
                    self._held.lose(run)
                lost.append(claim)
                continue
            run.lease_until, reason, newest = answer
            run.renewed_at, run.deadline = since, since + self._lease
            if reason is not None:
                self._stop(run, text(reason))
            if newest > (run.signals[-1] if run.signals else 0):
                self._aside(self._deliver(run))
        return lost

    async def finish(self, claim: Claim, ending: Finished | Failed | Aborted) -> None:
        run = self._held.of(claim)
        await self._make_room(run)
        run.closing = True
        next_turn, children = await self._store_last(run, self._finish, ending)
        self._held.end(run, ending)
        self._settled(next_turn)
        await self._abort_children(children)

    async def _finish(self, run: HeldRun, batch: EventBatch, body: bytes) -> Row:
        ending = batch.events[-1]
        status = status_after(ending)
        values = (
            *(data(run.run_id), run.owner, run.attempt, run.lane),
            *(batch.first, batch.last, body, str(status), run.started_at, self._events.clock()),
        )
        (row,) = await self._database.rows(_FINISH, values)
        return row

    async def wait(self, claim: Claim, waiting: Waiting, *, signals_read: int) -> None:
        run = self._held.of(claim)
        await self._make_room(run)
        read = run.signals[signals_read - 1] if 0 < signals_read <= len(run.signals) else 0
        run.closing = True

        async def store(run: HeldRun, batch: EventBatch, body: bytes) -> Row:
            values = (
                *(data(run.run_id), run.owner, run.attempt, run.lane),
                *(batch.first, batch.last, body, run.started_at, read),
            )
            (row,) = await self._database.rows(_WAIT, values)
            return row

        next_turn, reason = await self._store_last(run, store, waiting)
        if reason is not None:
            run.closing = False
            self._held.append(run, (waiting,))
            run.owner = claim.owner  # The event has let it go.
            await self.finish(claim, Aborted(text(reason)))
            return
        self._held.append(run, (waiting,))
        run.keep(run.last)
        self._held.leave(run)
        self._settled(next_turn)

    async def _make_room(self, run: HeldRun) -> None:
        """Have most of what is new stored, so that the rest has room beside the last event."""
        while run.last - run.kept > _ROOM_FOR_END or run.next_batch().last < run.last:
            await self._flusher.kept(run, run.last)
            if run.gone:
                raise lease_lost(run.run_id)

    async def _store_last(
        self,
        run: HeldRun,
        store: Callable[[HeldRun, EventBatch, bytes], Awaitable[Row]],
        event: Finished | Failed | Aborted | Waiting,
    ) -> tuple[str, Any]:
        """Store what is left of the Run's events with the last one. Tried again while the database
        cannot be used. Raises LeaseLost, StoreFailed."""
        give_up_at = self._steady() + _ENDING_FOR
        while True:
            batch = run.next_batch(event)
            body = encode_events(batch.events)
            try:
                outcome, last, *answer = await store(run, batch, body)
            except StoreFailed:
                if self._steady() > give_up_at or run.gone:
                    self._held.lose(run)
                    raise
                await asyncio.sleep(_RETRY_AFTER)
                continue
            except BaseException:
                run.closing = False
                raise
            if outcome == "behind":
                run.keep(last)
            elif outcome == "lost":
                self._held.lose(run)
                raise lease_lost(run.run_id)
            elif outcome == "abort":
                return "", answer[1]
            else:
                ring_events(self._bells, run, batch, body, final=isinstance(event, TERMINAL))
                return answer[0] or "", None if isinstance(event, Waiting) else answer[1]

    async def unfinished(
        self, key: SessionKey | None = None, *, waiting: bool = True
    ) -> tuple[RunSpec, ...]:
        """Of commands those of this process: other processes have no specs of theirs."""
        stored = await unfinished_runs(
            self._database, None if key is None else str(key), waiting=waiting
        )
        specs = []
        for one in stored:
            run = self._held.get(one.record.id)
            if run is not None and run.claim is not None:
                specs.append(run.claim.spec)
            elif one.lane is not None:
                specs.append(_load(one))
        return tuple(specs)

    async def expired(self, owner: str, *, go_on: bool = True) -> tuple[Claim, ...]:
        """There are none: workers get those of dead processes as new attempts, when the leases have
        expired."""
        return ()

    async def hand_back(self, run_id: str) -> bool:
        """True as well for a Run that this process does not hold. A Run that ends with its client
        is not handed back by the process that serves the client."""
        run = self._held.get(run_id)
        if run is None:
            stored = await stored_run(self._database, run_id)
            return stored is not None and stored.state != "ended"
        if (
            run.finished
            or run.closing
            or run.abort_reason is not None
            or run.lane is None
            or (run.accepted_here and run.begun.on_leave is OnLeave.ABORT)
        ):
            return False
        await self._flusher.kept(run, run.last)
        if run.gone:
            return True
        run.closing = True
        values = (data(run_id), run.owner, run.attempt)
        try:
            row = await self._database.row(_HAND_BACK, values, repeat=False)
        except BaseException:
            run.closing = False
            raise
        if row is None or not row[0]:
            run.closing = False
            return False
        self._held.requeued(run)
        self._bells.ring(READY, self._node)
        return True

    # Signals

    async def abort(self, run_id: str, reason: str) -> bool:
        run = self._held.get(run_id)
        if run is not None:
            if run.finished or run.closing or not self._stop(run, reason):
                return False
            # If this process dies meanwhile, the next owner ends the Run.
            self._aside(self._abort(run_id, reason))
            return True
        return await self._abort(run_id, reason)

    async def _abort(self, run_id: str, reason: str) -> bool:
        ending = Aborted(reason)
        body = encode_events((ending,))
        values = (data(run_id), data(reason), body, self._events.clock())
        (row,) = await self._database.rows(_ABORT, values)
        outcome, next_turn, children = row[:3]
        if outcome == "none":
            return False
        stored = stored_of_row(row[3:])
        if outcome == "asked":
            owner = stored.record.owner
            if owner not in self._servers:
                self._bells.ring(owner_channel(owner), str(stored.number))
            return True
        if stored.record.attempt and (server := self._choose()) is not None:
            server.worker.closed(_load(stored), ending)
        seq = stored.record.last_seq + 1
        channel = session_channel(channel_of(data(str(stored.record.session_key))))
        self._bells.ring(channel, f"{stored.number} {seq} {seq} 1 ")
        self._settled(next_turn or "")
        await self._abort_children(children)
        return True

    async def _abort_children(self, children: Sequence[bytes] | None) -> None:
        try:
            for child in children or ():
                await self.abort(text(child), PARENT_ENDED)
        except StoreFailed as error:  # They are looked for again.
            logger.debug("runs go on that work for none", extra={"reason": str(error)})

    def _stop(self, run: HeldRun, reason: str) -> bool:
        """Have the Run's owner in this process stop it."""
        if run.server is None or run.abort_reason is not None:
            return False
        if not run.server.worker.abort(run.run_id, reason):
            return False
        run.abort_reason = reason
        return True

    async def resolve(self, run_id: str, approval_id: str, decision: str) -> bool:
        return await self._signal(run_id, ApprovalDecided(approval_id, decision))

    async def inject(self, run_id: str, message: Message) -> bool:
        return await self._signal(run_id, MessageInjected(message))

    async def _signal(self, run_id: str, signal: Signal) -> bool:
        values = (data(run_id), encode_signal(signal))
        (row,) = await self._database.rows(_SIGNAL, values, repeat=False)
        outcome, owner, number, next_turn = row
        if outcome == "none":
            return False
        if outcome == "held":
            run = self._held.get(run_id)
            if run is not None and not run.finished:
                await self._deliver(run)
            else:
                self._bells.ring(owner_channel(owner), str(number))
        self._settled(next_turn or "")
        return True

    async def _deliver(self, run: HeldRun) -> None:
        """Give the attempt those signals that it does not have."""
        rows = await self._database.rows(_SIGNALS, ([run.number],))
        for _, number, body in rows:
            if number > (run.signals[-1] if run.signals else 0):
                signal = _load_signal(body)
                if signal is not None and run.server is not None and not run.gone:
                    run.signals.append(number)
                    run.server.worker.deliver(run.run_id, signal)

    def _called(self, payload: str) -> None:
        """A bell for a Run that this process holds."""
        for run in tuple(self._held):
            if str(run.number) == payload:
                self._aside(self._attend(run))

    async def _attend(self, run: HeldRun) -> None:
        values = (data(run.run_id), run.owner, run.attempt)
        row = await self._database.row(_CALLED, values)
        if row is not None and row[0] is not None:
            self._stop(run, text(row[0]))
        await self._deliver(run)

    # Sessions

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
            place.work()
            task = asyncio.create_task(work(), name=f"change of session {key}")
            self._beside.add(task)
            task.add_done_callback(self._beside.discard)
            # The lane is free once the work is done, not when its caller has stopped waiting.
            task.add_done_callback(lambda _: place.leave())
        return await shielded(task)

    def _settled(self, next_turn: str) -> None:
        """What comes next in a lane."""
        if next_turn == "run":
            self._ready()
        elif next_turn == self._node:
            self._changes.look()
        elif next_turn:
            self._bells.ring(owner_channel(next_turn))

    # The end

    def refuse(self) -> None:
        self._refusing = True

    async def idle(self) -> None:
        """Return once no Run is executed here."""
        while self._entering or any(True for _ in self._held):
            if self._entering:
                await woken(self._entered)
            else:
                await self._held.idle()

    def _note_idle(self) -> None:
        if not self._entering:
            for waiter in self._entered:
                if not waiter.done():
                    waiter.set_result(None)
            self._entered.clear()

    async def close(self) -> None:
        """Return once nothing of the queue is under way."""
        self._refusing = True
        while self._beside or self._claiming:
            tasks = {*self._beside, *([self._claiming] if self._claiming else [])}
            await asyncio.wait(tasks)
        await self._changes.close()

    async def look(self) -> None:
        """Do what bells would have called for, and take over Runs whose leases have expired. Raises
        StoreFailed."""
        self._changes.look()
        self._claim_soon()
        if self._claiming is not None:
            await asyncio.wait((self._claiming,))
        if self._works:
            for (child,) in await self._database.rows(_ORPHANS):
                await self.abort(text(child), PARENT_ENDED)

    def _aside(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._done_aside)

    def _done_aside(self, task: asyncio.Task[Any]) -> None:
        self._beside.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, GatewayError | Undecodable):
            logger.warning("a run's signal got lost", extra={"reason": str(error)})
        elif error is not None:
            raise error


def _is_held_by(run: HeldRun, claim: Claim) -> bool:
    return run.owner == claim.owner and run.attempt == claim.attempt


def _depth_of(spec: RunSpec) -> int:
    return min(spec.session_key.depth, DEEPEST)


def _load_signal(body: bytes) -> Signal | None:
    try:
        return decode_signal(body)
    except Undecodable:
        logger.exception("a stored signal cannot be read")
        return None


def _load(stored: StoredRun) -> RunSpec:
    """A spec that cannot be read is that of a Run that cannot go on."""
    try:
        return stored.load_spec()
    except Undecodable:
        logger.exception("a stored run cannot be read", extra={"run": stored.record.id})
        return spec_of(stored.record)
