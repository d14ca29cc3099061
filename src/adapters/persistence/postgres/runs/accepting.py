"""How a Run enters the queue."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from .....domain.errors import GatewayBusy, RunAborted, SessionBusy, ShuttingDown, StoreFailed
from .....domain.runs import OnLeave, RunSpec, Submission, record_of
from ...common import encode_spec, woken
from ..availability import DatabaseAway
from ..columns import data
from .claims import Claims
from .held import is_ephemeral
from .process import Process, depth_of
from .rows import STORED_OF_RUN, Row, stored_of_row
from .signals import PARENT_ENDED, Signals
from .watches import retrieve

_PATIENCE = 5.0
_RETRY_AFTER = 0.5
_SECONDS_PER_RUN_AHEAD = 5
_SECONDS_UNTIL_ABLE = 30
# A Run that this process executes at once for a client that cannot come back for it need not be on
# the disk before it begins: it is with its turn, or with its first stored events.
_SUBMIT = f"""
    SELECT set_config('synchronous_commit', CASE WHEN %s AND (run).state = 'held' THEN 'off'
            ELSE current_setting('synchronous_commit') END, true),
        outcome, amount, {STORED_OF_RUN}
    FROM run_accept(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""  # noqa: S608 - no values in it


class _Caller:
    """The caller of `enqueue`. `on_release` is None once it has stopped waiting: it has released
    what it held by then."""

    __slots__ = ("elsewhere", "on_release")

    def __init__(self, on_release: Callable[[], None] | None) -> None:
        self.on_release = on_release
        self.elsewhere = False
        """The Run was stored, and is not held here: there is nothing to release later."""

    def release(self) -> None:
        if self.on_release is not None:
            self.on_release()


class Accepting:
    """Stores Runs in one step. One that comes to its turn at once is leased to this process in the
    same step, where a slot is free."""

    def __init__(self, process: Process, claims: Claims, signals: Signals) -> None:
        self._process = process
        self._claims = claims
        self._signals = signals
        self._entering = 0
        self._entered: set[asyncio.Future[None]] = set()

    @property
    def in_progress(self) -> bool:
        return self._entering > 0

    async def done(self) -> None:
        """Return when the Runs that are being accepted are."""
        if self._entering:
            await woken(self._entered)

    async def enqueue(
        self,
        spec: RunSpec,
        *,
        fingerprint: str = "",
        once: bool = False,
        on_release: Callable[[], None] | None = None,
    ) -> Submission:
        caller = _Caller(on_release)
        entering = asyncio.create_task(self._enter(spec, fingerprint, once, caller))
        entering.add_done_callback(retrieve)
        try:
            async with asyncio.timeout(_PATIENCE):
                submission = await asyncio.shield(entering)
        except (asyncio.CancelledError, TimeoutError) as error:
            caller.on_release = None
            if not once:  # Whoever repeats the request gets the Run otherwise.
                self._process.aside(self._abandon(entering, spec.id))
            if isinstance(error, TimeoutError):
                problem = f"The database has not accepted the run within {_PATIENCE:g} s."
                raise DatabaseAway(problem) from error
            raise
        except StoreFailed:
            # The statement may have been carried out, and only its answer was lost.
            if not once:
                self._process.aside(self._abandon(entering, spec.id))
            raise
        if caller.elsewhere:  # Not in the task above: a caller that has left releases it itself.
            caller.release()
        return submission

    async def _abandon(self, entering: asyncio.Task[Submission], run_id: str) -> None:
        """Stop the Run, unless it was refused. Tried again while the database cannot be reached."""
        await asyncio.wait((entering,))
        error = entering.exception()
        if error is not None and not isinstance(error, StoreFailed):
            return
        since = self._process.steady()
        while True:
            try:
                await self._signals.abort(run_id, "The client left.")
            except DatabaseAway:
                if self._process.gives_up(since):
                    raise
                await asyncio.sleep(_RETRY_AFTER)
            else:
                return

    async def _enter(
        self,
        spec: RunSpec,
        fingerprint: str,
        once: bool,
        caller: _Caller,
    ) -> Submission:
        process, slots = self._process, self._process.slots
        if process.refusing:
            known = await process.events.find(spec.id) if once else None
            if known is not None:
                return Submission(known, fresh=False)
            problem = "The Gateway is shutting down and takes no more runs."
            raise ShuttingDown(problem, retry_after=1)
        depth = depth_of(spec)
        server = process.choose() if process.works or spec.command is not None else None
        if spec.command is None:
            if lacking := process.lacking(spec.agent_id):
                known = await process.events.find(spec.id) if once else None
                if known is not None:
                    return Submission(known, fresh=False)
                raise GatewayBusy(
                    f"No node can execute the agent {spec.agent_id!r} now. {lacking}",
                    retry_after=_SECONDS_UNTIL_ABLE,
                )
            if spec.agent_id in process.unable():
                server = None
        if spec.command is not None:
            if server is None:
                raise GatewayBusy("Nothing in this process carries out commands.", retry_after=1)
        elif server is not None and not slots.free()[depth]:
            await self._claims.claimed()  # It has taken the slots that are free, for a moment.
            if not slots.free()[depth]:
                server = None
        if server is not None and spec.command is None:
            slots.take(depth)
        since = process.steady()
        self._entering += 1
        held = False
        try:
            ephemeral = is_ephemeral(spec, fingerprint)
            row = await self._submit(
                spec, fingerprint, None if server is None else server.owner, ephemeral
            )
            outcome, amount = row[:2]
            self._check(spec, outcome, amount, once)
            stored = stored_of_row(row[2:])
            if outcome == "known":
                here = process.held.get(spec.id)
                return Submission(stored.record if here is None else here.record, fresh=False)
            if spec.on_leave is OnLeave.ABORT:
                process.note_accepted(spec.id)
            if server is not None and (stored.state, stored.record.owner) == (
                "held",
                server.owner,
            ):
                held = True
                self._claims.take(stored, spec, server, since, accepted=caller.release, here=True)
            else:
                caller.elsewhere = True
                if stored.state == "ready":
                    process.ready()
            return Submission(record_of(spec, fingerprint=fingerprint), fresh=True)
        finally:
            self._entering -= 1
            if not held and server is not None and spec.command is None:
                process.give_back(depth)
            self._note_done()

    async def _submit(
        self, spec: RunSpec, fingerprint: str, owner: str | None, ephemeral: bool
    ) -> Row:
        key = data(str(spec.session_key))
        command = spec.command is not None
        limits = self._process.slots.limits
        values = (
            ephemeral,
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
            depth_of(spec),
            None if command else key,
            owner,
            self._process.lease,
            limits.max_waiting,
            limits.max_queued,
            self._process.node if spec.on_leave is OnLeave.ABORT else None,
        )
        (row,) = await self._process.database.rows(_SUBMIT, values)
        return row[1:]

    def _check(self, spec: RunSpec, outcome: str, amount: int, once: bool) -> None:
        """Raises what refuses the Run."""
        limits = self._process.slots.limits
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

    def _note_done(self) -> None:
        if not self._entering:
            for waiter in self._entered:
                if not waiter.done():
                    waiter.set_result(None)
            self._entered.clear()
