"""What holds for runs and who is told of them, whatever clients do, and in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opensoul.domain.run_records import RunStatus
from tests.control.client import Refused
from tests.control.world import Witness, World, of_status

T = TypeVar("T")

SESSIONS = st.sampled_from(("main", "a", "b"))
METHODS = st.sampled_from(("agent", "chat.send"))
MOST_WITNESSES = 4
MOST_RUNS = 20
"""So many may wait in a session."""
INDEX = st.integers(0, 1_000)
ENDED = ("final", "aborted", "error")


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
            self.do(self._check())
        finally:
            self.do(self.world.close())
            self.runner.close()

    async def _check(self) -> None:
        await self.world.rest()
        records = await self.world.records()
        assert [record.id for record in records] == [run.id for run in self.world.runs]
        assert all(record.status.final for record in records)
        last = {record.id: record.last_seq for record in records}
        self._followers_were_told_all(last)
        self._listeners_were_told_the_end(last)
        self._nothing_is_left()
        for session in ("main", "a", "b"):
            await self._history_is_right(session, of_status(records, RunStatus.FINISHED))

    def _followers_were_told_all(self, last: dict[str, int]) -> None:
        """From where they asked to the end; and nothing of it in another way besides."""
        for one in self.world.followings:
            if one.witness in self.world.witnesses:
                assert one.numbers == list(range(one.after + 1, last[one.run_id] + 1))

    def _listeners_were_told_the_end(self, last: dict[str, int]) -> None:
        for witness in self.world.witnesses:
            followed = {f.run_id for f in self.world.followings if f.witness is witness}
            for run_id in last.keys() - followed:
                told = [payload["seq"] for payload in witness.told_of(run_id)]
                assert not told or told == list(range(told[0], last[run_id] + 1))
            for run_id in last:
                ends = [f for f in witness.frames if is_end_of_chat(f, run_id)]
                assert len(ends) <= 1
                if witness.told_of(run_id) and run_id not in followed:
                    assert len(ends) == 1
            assert all(witness.last_answers(request_id) == 1 for request_id in witness.asked)

    def _nothing_is_left(self) -> None:
        parts = self.world.parts
        lanes, hub = parts.lanes(), parts.control().hub
        assert (lanes.working, lanes.waiting, len(parts.dispatcher())) == (0, 0, 0)
        assert not lanes._sessions
        assert not hub._tellers
        assert not parts.gateway()._followers
        assert len(hub) == len(self.world.witnesses)
        assert not any(connection.following for connection in hub.connections)
        listening = {c for there in hub._audiences._by_session.values() for c in there}
        assert listening <= set(hub.connections)

    async def _history_is_right(self, session: str, finished: set[str]) -> None:
        told = await self.witness(0).call("chat.history", {"sessionKey": session, "limit": 1_000})
        roles = [message["role"] for message in told["messages"]]
        expected = [run_id for run_id in self.world.finished(session) if run_id in finished]
        assert roles == ["user", "assistant"] * len(expected)
        assert [message["runId"] for message in told["messages"][::2]] == expected


def is_end_of_chat(frame: dict[str, Any], run_id: str) -> bool:
    payload = frame.get("payload") or {}
    told = frame.get("event") == "chat" and payload["runId"] == run_id
    return told and payload["state"] in ENDED


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
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
TestControl = ControlMachine.TestCase
