"""What holds for the lanes whatever is done to them, and in whatever order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opensoul.adapters.persistence.queue.lanes import Lanes, Place
from opensoul.domain.errors import GatewayBusy, SessionBusy
from opensoul.domain.settings import LaneSettings
from tests.examples import examples

SESSIONS = ("a", "b", "c", "d")
MOST = 3


class LanesMachine(RuleBasedStateMachine):
    """Enters, leaves and changes the limits at will; keeps its own books beside the Lanes."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = LaneSettings(max_concurrent=2, max_waiting=2, max_queued=4)
        self.lanes = Lanes(lambda: self.limits)
        self.queues: dict[str, list[Place]] = {session: [] for session in SESSIONS}
        self.working: set[Place] = set()
        self.heads: list[Place] = []
        """At the head of their session without a slot, in the order in which they got there."""

    @property
    def everybody(self) -> list[Place]:
        return [place for queue in self.queues.values() for place in queue]

    @property
    def places(self) -> list[Place]:
        """Of Runs; changes are not counted."""
        return [place for place in self.everybody if place.is_run]

    @rule(
        concurrent=st.integers(1, MOST),
        waiting=st.integers(0, 3),
        queued=st.integers(0, 6),
    )
    def change_the_limits(self, concurrent: int, waiting: int, queued: int) -> None:
        self.limits = LaneSettings(concurrent, waiting, queued)

    @rule(session=st.sampled_from(SESSIONS))
    def enter(self, session: str) -> None:
        self._free_slots_go_to_the_heads()
        queue = self.queues[session]
        must_wait = bool(queue) or len(self.working) >= self.limits.max_concurrent
        waiting = len(self.places) - len(self.working)
        try:
            place = self.lanes.enter(session)
        except SessionBusy:
            assert sum(place.is_run for place in queue) > self.limits.max_waiting
        except GatewayBusy:
            assert must_wait
            assert waiting >= self.limits.max_queued
        else:
            assert sum(place.is_run for place in queue) <= self.limits.max_waiting
            assert not must_wait or waiting < self.limits.max_queued
            queue.append(place)
            if queue[0] is place:
                self.heads.append(place)
            self._free_slots_go_to_the_heads()
        self._the_right_ones_work()

    @rule(session=st.sampled_from(SESSIONS))
    def enter_to_change(self, session: str) -> None:
        queue = self.queues[session]
        changes = sum(not place.is_run for place in queue)
        try:
            place = self.lanes.enter_to_change(session)
        except SessionBusy:
            assert changes > self.limits.max_waiting
        else:
            assert changes <= self.limits.max_waiting
            queue.append(place)
        self._the_right_ones_work()

    @precondition(lambda self: self.everybody)
    @rule(data=st.data(), again=st.booleans())
    def leave(self, data: st.DataObject, again: bool) -> None:
        place = data.draw(st.sampled_from(self.everybody), "who leaves")
        self._leave(place)
        if again:
            place.leave()
            self._the_right_ones_work()

    def _leave(self, place: Place) -> None:
        queue = self.queues[place.session]
        was_head = queue[0] is place
        queue.remove(place)
        self.working.discard(place)
        if place in self.heads:
            self.heads.remove(place)
        if was_head and queue and queue[0].is_run:
            self.heads.append(queue[0])
        self._free_slots_go_to_the_heads()
        place.leave()
        self._the_right_ones_work()

    def _free_slots_go_to_the_heads(self) -> None:
        while self.heads and len(self.working) < self.limits.max_concurrent:
            self.working.add(self.heads.pop(0))

    def _the_right_ones_work(self) -> None:
        assert {place for place in self.places if place.granted} == self.working
        for queue in self.queues.values():
            for i, place in enumerate(queue):
                assert place.is_run or place.granted == (i == 0)  # A change needs no slot.

    @invariant()
    def at_most_the_first_of_a_session_works(self) -> None:
        for queue in self.queues.values():
            assert not any(place.granted for place in queue[1:])

    @invariant()
    def the_counters_are_right_and_the_cap_holds(self) -> None:
        working = sum(place.granted for place in self.places)
        assert working <= MOST
        assert self.lanes.working == working
        assert self.lanes.waiting == len(self.places) - working

    def teardown(self) -> None:
        """Nobody starves: whoever waits gets a turn once those before it are done."""
        while self.everybody:
            granted = [place for place in self.everybody if place.granted]
            assert granted, "somebody waits, and nobody works"
            self._leave(granted[0])
        assert (self.lanes.working, self.lanes.waiting) == (0, 0)
        assert self.lanes.sessions == 0, "a session without places is remembered"


LanesMachine.TestCase.settings = settings(
    max_examples=examples(150), stateful_step_count=40, deadline=None
)
TestLanes = LanesMachine.TestCase
