"""What holds for runs and who is told of them, whatever clients do, and in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.control.client import Refused
from tests.control.truth import check
from tests.control.witness import Witness
from tests.control.world import World
from tests.examples import examples

T = TypeVar("T")

SESSIONS = st.sampled_from(("main", "a", "b"))
METHODS = st.sampled_from(("agent", "chat.send"))
MOST_WITNESSES = 4
MOST_RUNS = 20
"""So many may wait in a session."""
INDEX = st.integers(0, 1_000)


def request(method: str, session: str, key: str, words: str | None = None) -> dict[str, Any]:
    words = words or f"{method} {key}"
    return {"sessionKey": session, "message": words, "idempotencyKey": key}


class ControlMachine(RuleBasedStateMachine):
    """Clients that come, ask, follow, stop, forget and go; a World that keeps the books.

    What is drawn depends on what was done before and not on how fast that went.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.world = World()
        self.asked: dict[str, tuple[str, str]] = {}
        """By key: with which method, in which session."""
        self.asked_by_http = 0
        self.do(self.world.open())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def witness(self, index: int) -> Witness:
        return self.world.witnesses[index % len(self.world.witnesses)]

    def key(self, index: int) -> str:
        return list(self.asked)[index % len(self.asked)]

    def run_id(self, index: int) -> str:
        return self.world.runs[index % len(self.world.runs)].id

    @precondition(lambda self: len(self.world.witnesses) < MOST_WITNESSES)
    @rule()
    def connect(self) -> None:
        self.do(self.world.enter())

    @precondition(lambda self: len(self.world.witnesses) > 1)
    @rule(who=INDEX)
    def disconnect(self, who: int) -> None:
        self.do(self.world.leave(self.witness(who)))

    @precondition(lambda self: len(self.world.runs) < MOST_RUNS)
    @rule(who=INDEX, method=METHODS, session=SESSIONS, times=st.integers(1, 3))
    def ask(self, who: int, method: str, session: str, times: int) -> None:
        """Under a new key: once, or several clients at the same moment."""
        self.do(self._ask(who, method, session, times))

    async def _ask(self, who: int, method: str, session: str, times: int) -> None:
        key = f"key-{len(self.asked)}"
        self.asked[key] = (method, session)
        witnesses = [self.witness(who + number) for number in range(times)]
        sent = [(w, w.send(method, request(method, session, key))) for w in witnesses]
        answers = [await witness.answer(request_id) for witness, request_id in sent]
        assert all(answer["runId"] == key for answer in answers)
        assert key in [run.id for run in self.world.runs]

    @precondition(lambda self: self.asked)
    @rule(who=INDEX, which=INDEX)
    def ask_again(self, who: int, which: int) -> None:
        key = self.key(which)
        method, session = self.asked[key]
        self.do(again(self.witness(who), method, request(method, session, key)))

    @precondition(lambda self: self.asked)
    @rule(who=INDEX, which=INDEX)
    def ask_for_something_else(self, who: int, which: int) -> None:
        key = self.key(which)
        method, session = self.asked[key]
        other = request(method, session, key, "something else")
        refused = self.do(refusal(self.witness(who), method, other))
        assert "another request" in refused

    @precondition(lambda self: self.world.runs)
    @rule(who=INDEX, which=INDEX, after=st.integers(0, 6))
    def follow(self, who: int, which: int, after: int) -> None:
        self.do(self.world.follow(self.witness(who), self.run_id(which), after))

    @rule(which=INDEX)
    def come_back_and_follow_on(self, which: int) -> None:
        if self.world.followings:  # That depends on how fast things went.
            self.do(self._come_back(which % len(self.world.followings)))

    async def _come_back(self, which: int) -> None:
        left = self.world.followings[which]
        there = self.world.witnesses
        await self.world.leave(left.witness if left.witness in there else there[0])
        last = left.told[-1]["seq"] if left.told else left.after
        assert await self.world.follow(await self.world.enter(), left.run_id, last)

    @precondition(lambda self: len(self.world.runs) < MOST_RUNS)
    @rule(session=SESSIONS)
    def ask_by_http(self, session: str) -> None:
        self.asked_by_http += 1
        self.do(self.world.ask_by_http(session, f"http {self.asked_by_http}"))

    @precondition(lambda self: self.world.by_http)
    @rule(which=INDEX)
    def leave_http(self, which: int) -> None:
        tasks = self.world.by_http
        self.do(left(tasks[which % len(tasks)]))

    @precondition(lambda self: self.asked)
    @rule(which=INDEX, order=st.sampled_from(("go on", "finish", "fail")))
    def provider(self, which: int, order: str) -> None:
        words = [f"{method} {key}" for key, (method, _) in self.asked.items()]
        words += [f"http {number + 1}" for number in range(self.asked_by_http)]
        self.do(self._order(words[which % len(words)], order))

    async def _order(self, words: str, order: str) -> None:
        self.world.orders[words].put_nowait(order)
        await self.witness(0).call("health")

    @precondition(lambda self: self.world.runs)
    @rule(who=INDEX, which=INDEX, how=st.sampled_from(("runs", "chat", "sessions", "all")))
    def abort(self, who: int, which: int, how: str) -> None:
        run = self.world.runs[which % len(self.world.runs)]
        key = str(run.session_key)
        method, params = {
            "runs": ("runs.abort", {"runId": run.id}),
            "chat": ("chat.abort", {"runId": run.id, "sessionKey": key}),
            "sessions": ("sessions.abort", {"runId": run.id}),
            "all": ("chat.abort", {"sessionKey": key}),
        }[how]
        told = self.do(self.witness(who).call(method, params))
        assert told["aborted"] is bool(told["runIds"])
        if how != "all":
            assert told["runIds"] in ([], [run.id])

    @rule(who=INDEX, session=SESSIONS)
    def reset(self, who: int, session: str) -> None:
        self.do(self.witness(who).call("sessions.reset", {"key": session}))
        self.world.begun_anew[session] = len(self.world.runs)

    @rule(who=INDEX, session=st.sampled_from(("a", "b")))
    def delete(self, who: int, session: str) -> None:
        self.do(self.witness(who).call("sessions.delete", {"key": session}))
        self.world.begun_anew[session] = len(self.world.runs)

    @invariant()
    def nothing_is_asked_of_the_provider_twice(self) -> None:
        said = [request.json["messages"][-1]["content"] for request in self.world.provider.requests]
        assert len(said) == len(set(said))

    @invariant()
    def nobody_is_told_with_a_gap_or_twice(self) -> None:
        for one in self.world.followings:
            assert one.numbers == list(range(one.after + 1, one.after + 1 + len(one.numbers)))
        for witness in self.world.witnesses:
            numbers = [frame["seq"] for frame in witness.frames if "seq" in frame]
            assert numbers == list(range(1, len(numbers) + 1))

    def teardown(self) -> None:
        try:
            self.do(check(self.world))
        finally:
            self.do(self.world.close())
            self.runner.close()


async def refusal(witness: Witness, method: str, params: dict[str, Any]) -> str:
    try:
        await witness.call(method, params)
    except Refused as refused:
        return str(refused)
    return ""


async def again(witness: Witness, method: str, params: dict[str, Any]) -> None:
    """Ask for a Run that is there already. A failed one is answered with its failure."""
    try:
        answer = await witness.call(method, params)
    except Refused as refused:
        answer = refused.payload
    assert answer["runId"] == params["idempotencyKey"]


async def left(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


ControlMachine.TestCase.settings = settings(
    max_examples=examples(12),
    stateful_step_count=30,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
TestControl = ControlMachine.TestCase
