"""Whatever owners do, and however they die: one owner for a Session, and one end for a Run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from opensoul.adapters.persistence.memory import MemoryRunEvents
from opensoul.adapters.persistence.queue import Lanes, LocalQueue
from opensoul.domain.errors import LeaseLost
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.runs.claims import Claim, Signal
from opensoul.domain.runs.events import TERMINAL, Aborted, RunEvent, Waiting
from opensoul.domain.runs.spec import RunSpec
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.settings import LaneSettings
from tests.examples import examples
from tests.fakes.domain import run

from .run_logs import END, HandClock

LEASE = 30.0
SLOTS = 3
OWNERS = ("a", "b", "c")
T = TypeVar("T")


class Owner:
    """Holds claims. One that is dead keeps what it had, and knows nothing of what is new."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.claims: list[Claim] = []
        self.dead = False

    def take(self, claim: Claim) -> None:
        if not self.dead:
            self.claims.append(claim)

    def abort(self, run_id: str, reason: str) -> bool:
        return False

    def deliver(self, run_id: str, signal: Signal) -> None:
        """Its claims have the signals when a Run goes on."""

    def closed(self, spec: RunSpec, ending: Aborted) -> None:
        """It keeps nothing of Runs."""


class QueueMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = HandClock()
        self.log = MemoryRunEvents(clock=time.time)
        lanes = Lanes(lambda: LaneSettings(max_concurrent=SLOTS))
        self.lanes = lanes
        self.queue = LocalQueue(
            rows=self.log, lanes=lanes, clock=self.clock, steady=self.clock, lease=LEASE
        )
        self.owners = {name: Owner(name) for name in OWNERS}
        for name, owner in self.owners.items():
            self.queue.serve(name, owner)
        self.order: dict[SessionKey, list[str]] = {}
        self.ended: dict[str, int] = {}
        self.stale: list[Claim] = []
        self.attempts: dict[str, int] = {}
        self.renewed: dict[tuple[str, int], float] = {}
        """By run and attempt, when the lease began or was renewed last."""

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def in_force(self, claim: Claim) -> bool:
        return claim not in self.stale and claim.attempt == self.attempts.get(claim.spec.id)

    def may_be_lost(self, claim: Claim) -> bool:
        """It is not in force, or its lease has expired, though no other owner may be there."""
        since = self.renewed[claim.spec.id, claim.attempt]
        return not self.in_force(claim) or self.clock.now >= since + LEASE

    def note(self) -> None:
        """Every claim's attempt is above those before it, which are stale from then on."""
        for owner in self.owners.values():
            for claim in owner.claims:
                self.renewed.setdefault((claim.spec.id, claim.attempt), self.clock.now)
                known = self.attempts.get(claim.spec.id, 0)
                self.attempts[claim.spec.id] = max(known, claim.attempt)

    @rule(session=st.sampled_from("xyz"))
    def enqueue(self, session: str) -> None:
        key = SessionKey("main", session)
        run_id = f"run-{sum(map(len, self.order.values()))}"
        self.do(self.queue.enqueue(run(run_id, session_key=key)))
        self.order.setdefault(key, []).append(run_id)
        self.note()

    @rule(data=st.data(), how=st.sampled_from(["finish", "wait", "append"]))
    def act(self, data: st.DataObject, how: str) -> None:
        """Some owner, dead or alive, does something with a claim that it has or had."""
        claims = [claim for owner in self.owners.values() for claim in owner.claims]
        if not claims:
            return
        claim = data.draw(st.sampled_from(claims))
        held = self.in_force(claim)
        try:
            if how == "finish":
                self.do(self.queue.finish(claim, END))
                self.ended[claim.spec.id] = self.ended.get(claim.spec.id, 0) + 1
            elif how == "wait":
                self.do(self.queue.wait(claim, Waiting("for a sign"), signals_read=99))
            else:
                self.do(self.log.append(claim, [TextDelta("x")]))
        except LeaseLost:
            assert self.may_be_lost(claim)
        else:
            assert held
            if how != "append":
                self.stale.append(claim)
        self.note()

    @rule(data=st.data())
    def signal(self, data: st.DataObject) -> None:
        runs = [spec.id for spec in self.do(self.queue.unfinished())]
        if runs:
            assert self.do(self.queue.resolve(data.draw(st.sampled_from(runs)), "a", "allow"))
            self.note()

    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        """Owners here do not stop, so that only Runs without one are ended."""
        runs = [spec.id for spec in self.do(self.queue.unfinished())]
        if runs:
            run_id = data.draw(st.sampled_from(runs))
            if self.do(self.queue.abort(run_id, "Stop it.")):
                self.ended[run_id] = self.ended.get(run_id, 0) + 1
            self.note()

    @rule(names=st.sets(st.sampled_from(OWNERS)))
    def time_passes(self, names: set[str]) -> None:
        """More than a lease: those of the owners that do not renew theirs are lost."""
        self.clock.now += LEASE * 0.7
        for name in names:
            owner = self.owners[name]
            if not owner.dead:
                lost = self.do(self.queue.renew(name, owner.claims))
                assert all(self.may_be_lost(claim) for claim in lost)
                for claim in owner.claims:
                    if claim not in lost:
                        self.renewed[claim.spec.id, claim.attempt] = self.clock.now
                owner.claims = [claim for claim in owner.claims if claim not in lost]
        self.queue.take_over_expired()
        self.note()

    @precondition(lambda self: sum(not owner.dead for owner in self.owners.values()) > 1)
    @rule(name=st.sampled_from(OWNERS))
    def die(self, name: str) -> None:
        self.owners[name].dead = True

    @invariant()
    def one_owner_in_a_session(self) -> None:
        if not hasattr(self, "owners"):
            return
        working: dict[SessionKey, set[str]] = {}
        for entry in self.do(self.queue.unfinished(waiting=False)):
            record = self.do(self.log.find(entry.id))
            assert record is not None
            if record.owner:
                working.setdefault(entry.session_key, set()).add(entry.id)
        assert all(len(runs) == 1 for runs in working.values())
        assert self.lanes.working <= SLOTS

    @invariant()
    def a_run_ends_once(self) -> None:
        if hasattr(self, "owners"):
            assert all(count == 1 for count in self.ended.values())

    def teardown(self) -> None:
        if not hasattr(self, "owners"):
            return
        survivor = Owner("survivor")
        self.queue.serve("survivor", survivor)
        everything = [run_id for runs in self.order.values() for run_id in runs]
        rounds = 0
        while unfinished := self.do(self.queue.unfinished()):
            rounds += 1
            assert rounds < 10 * len(everything) + 10
            self.clock.now += LEASE + 1
            self.queue.take_over_expired()
            self.do(self.queue.renew("survivor", ()))
            for spec in unfinished:
                self.do(self.queue.resolve(spec.id, "a", "allow"))
            while survivor.claims:  # Each Run that ends lets another come to its turn.
                with suppress(LeaseLost):
                    self.do(self.queue.finish(survivor.claims.pop(), END))
        assert self.do(self.queue.unfinished()) == ()
        assert (self.lanes.working, self.lanes.waiting) == (0, 0)
        for run_id in everything:
            events = self.do(self.events(run_id))
            assert [isinstance(event, TERMINAL) for event in events].count(True) == 1
            assert isinstance(events[-1], TERMINAL)
        self.loop.close()

    async def events(self, run_id: str) -> list[RunEvent]:
        return [event async for batch in self.log.follow(run_id) for event in batch.events]


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=examples(40), stateful_step_count=30, deadline=None)
