"""Leases: which Runs this process gets, renews and loses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from .....domain.errors import StoreFailed
from .....domain.ports import Worker
from .....domain.runs import Aborted, Claim, RunSpec, Signal
from ...common import text
from ..availability import MOST_OUTAGE
from ..columns import data
from .bells import READY, channel_of, owner_channel
from .endings import Endings
from .held import HeldRun, Server
from .process import Process, load_spec
from .rows import STORED, Row, StoredRun, stored_of_row
from .signals import Signals

logger = logging.getLogger(__name__)

_FRESH = 0.3
"""A lease that was renewed less than this part of it ago is not renewed again."""

_CLAIM = f"SELECT {STORED} FROM run_claim(%s, %s, %s)"  # noqa: S608 - no values in it
_CLAIM_ABLE = f"SELECT {STORED} FROM run_claim_able(%s, %s, %s, %s)"  # noqa: S608 - the same
"""Without Runs of agents that this process cannot execute."""
_CLAIM_READY = f"""
    WITH picked AS MATERIALIZED (
        SELECT one.number
        FROM unnest(%s::integer[]) WITH ORDINALITY AS free (slots, ordinal),
        LATERAL (
            SELECT r.number FROM runs r
            WHERE r.state = 'ready' AND r.depth = free.ordinal - 1
                AND r.agent_id <> ALL (%s::bytea[])
            ORDER BY r.position LIMIT free.slots FOR UPDATE SKIP LOCKED
        ) AS one
    ), claimed AS (
        UPDATE runs r SET state = 'held', owner = %s, attempt = r.attempt + 1,
            claimed_at = server_now(), lease_until = server_now() + %s
        FROM picked WHERE r.number = picked.number RETURNING r.*
    )
    SELECT {STORED} FROM claimed"""  # noqa: S608 - no values in it
"""Without Runs whose leases have expired."""
_RENEW = "SELECT * FROM run_renew(%s, %s, %s, %s)"


class Claims:
    """Claims Runs for the owners of this process while slots are free."""

    def __init__(self, process: Process, signals: Signals, endings: Endings) -> None:
        self._process = process
        self._signals = signals
        self._endings = endings
        self._database = process.database
        self._held = process.held
        self._claiming: asyncio.Task[None] | None = None
        self._again = False
        process.on_ready = self.soon
        process.bells.hear(owner_channel(process.node), self._heard)

    def serve(self, owner: str, worker: Worker) -> None:
        process = self._process
        process.servers[owner] = Server(owner, worker)
        process.bells.hear(owner_channel(owner), self._heard)
        if process.works:
            process.bells.hear(READY, self._heard_ready)
        if process.events.is_open:
            self.soon()

    def withdraw(self, owner: str) -> None:
        self._process.servers.pop(owner, None)

    def take(
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
        run.deadline = since + self._process.lease
        run.channel = channel_of(data(str(spec.session_key)))
        run.accepted_here = here
        run.signals = [number for number, _ in signals]
        run.abort_reason = stored.abort_reason
        depth = None if stored.lane is None else stored.depth

        def released() -> None:
            if depth is not None:
                self._process.give_back(depth)
            if accepted is not None:
                accepted()

        run.on_release = released
        if stored.abort_reason is None:
            server.worker.take(claim)
        return claim

    def soon(self) -> None:
        """There may be Runs to claim."""
        if not self._process.works or self._process.refusing:
            return
        self._again = True
        if self._claiming is None:
            self._claiming = asyncio.create_task(self._claim_all(), name="claim runs")

    async def claimed(self) -> None:
        """Return once no claim is under way."""
        if self._claiming is not None:
            await asyncio.wait((self._claiming,))

    def _heard(self, payload: str) -> None:
        """A bell for an owner, or for this process."""
        if payload:
            self._signals.heard(payload)
        else:
            self._process.on_change()

    def _heard_ready(self, node: str) -> None:
        if node != self._process.node:
            self.soon()

    async def _claim_all(self) -> None:
        try:
            while self._again:
                self._again = False
                self._lose_expired()
                await self._claim()
        except StoreFailed as error:
            logger.debug("no runs were claimed", extra={"reason": str(error)})
        finally:
            self._claiming = None

    def _lose_expired(self) -> None:
        """This process was not able to renew these leases: others may have the Runs."""
        for run in tuple(self._held):
            if not run.closing and self._held.is_expired(run):
                if run.server is not None:
                    run.server.silent = True
                self._held.lose(run)

    async def _claim(self) -> None:
        process, slots = self._process, self._process.slots
        server, free = process.choose(), slots.free()
        process.more = not any(free)
        if server is None or process.more or process.refusing or self._held.any_overdue():
            return
        for depth, count in enumerate(free):
            slots.take(depth, count)
        since = process.steady()
        ending: list[tuple[Claim, Aborted]] = []
        try:
            rows = await self._claimed_rows(server.owner, free)
            claimed = [stored_of_row(row) for row in rows]
            signals = await self._signals.stored([run for run in claimed if run.last_signal])
        finally:
            for depth, count in enumerate(free):
                slots.give_back(depth, count)
        for run in claimed:
            if run.lane is not None:
                slots.take(run.depth)
            free[run.depth] -= 1
            spec = load_spec(run)
            claim = self.take(run, spec, server, since, signals=signals.get(run.number, ()))
            if run.abort_reason is not None:
                ending.append((claim, Aborted(run.abort_reason)))
                server.worker.closed(spec, ending[-1][1])
        process.more = any(count <= 0 for count in free[:1])
        for claim, aborted in ending:
            process.aside(self._endings.finish(claim, aborted))

    async def _claimed_rows(self, owner: str, free: list[int]) -> list[Row]:
        """After an outage of the database nobody was able to renew, whether its server was started
        anew or not. So for one lease nothing is taken over."""
        lease = self._process.lease
        unable = [data(agent_id) for agent_id in self._process.unable()]
        if self._database.outage_within(lease):
            return await self._database.rows(_CLAIM_READY, (free, unable, owner, lease))
        if unable:
            return await self._database.rows(_CLAIM_ABLE, (owner, lease, free, unable))
        return await self._database.rows(_CLAIM, (owner, lease, free))

    async def renew(self, owner: str, claims: Sequence[Claim]) -> Sequence[Claim]:
        server = self._process.servers.get(owner)
        since = self._process.steady()
        asked, lost = [], []
        for claim in claims:
            run = self._held.get(claim.spec.id)
            if run is None or run.finished or not _is_held_by(run, claim):
                lost.append(claim)
            elif since - run.renewed_at > self._process.lease * _FRESH:
                asked.append((claim, run))
        if asked:
            lost += await self._renew(asked)
        if server is not None and server.silent:
            server.silent = False
            self.soon()
        return lost

    async def _renew(self, asked: Sequence[tuple[Claim, HeldRun]]) -> list[Claim]:
        values = (
            [data(claim.spec.id) for claim, _ in asked],
            [claim.owner for claim, _ in asked],
            [claim.attempt for claim, _ in asked],
            self._process.lease,
        )
        since = 0.0

        async def store() -> list[Row]:
            nonlocal since
            async with self._process.flusher.writing:
                since = self._process.steady()
                return await self._database.rows(_RENEW, values)

        rows = await self._database.patiently(store, MOST_OUTAGE)
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
            run.renewed_at, run.deadline = since, since + self._process.lease
            if reason is not None:
                self._process.stop(run, text(reason))
            if newest > (run.signals[-1] if run.signals else 0):
                self._process.aside(self._signals.deliver(run))
        return lost


def _is_held_by(run: HeldRun, claim: Claim) -> bool:
    return run.owner == claim.owner and run.attempt == claim.attempt
