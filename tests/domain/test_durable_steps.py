"""The native runner in an executor: steps outlive attempts, and calls wait for approvals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from opensoul.adapters.persistence.memory import MemoryApprovals
from opensoul.adapters.persistence.queue import LocalQueue
from opensoul.domain.access import Principal, Scope
from opensoul.domain.agents import RunLimits
from opensoul.domain.errors import (
    ApprovalDecided,
    FailureKind,
    Forbidden,
    ModelFailed,
    StoreFailed,
    UnknownApproval,
)
from opensoul.domain.execution.loop import TurnLoop
from opensoul.domain.execution.router import ModelRouter
from opensoul.domain.messages import Message, Role, Text, ToolCall
from opensoul.domain.models.calls import ModelFinished, StopReason, TextDelta, ToolCallDelta, Usage
from opensoul.domain.models.cooldowns import Cooldowns
from opensoul.domain.ports import ToolContext
from opensoul.domain.runs.events import (
    Aborted,
    Failed,
    Finished,
    Resumed,
    RunEvent,
    StepDone,
    ToolFinished,
    ToolStarted,
    Waiting,
)
from opensoul.domain.runs.journal import INTERRUPTED, failed_result, result_of
from opensoul.domain.runs.records import RunStatus
from opensoul.domain.runs.spec import RunSpec
from opensoul.domain.services.approvals import Approvals
from opensoul.domain.tools import Decision, Effect, Repeat, ToolOutput, ToolResult, ToolSpec
from tests.domain.cluster import Cluster
from tests.domain.rig import Rig
from tests.fakes.domain import (
    FakeClock,
    FakeModelClient,
    FakeQueue,
    FakeStore,
    Gate,
    agent,
    assistant,
    run,
    settings,
    target,
    user,
)

ONE = target("acme/one")
A, B = ToolCall("a", "send", "{}"), ToolCall("b", "send", '{"n":2}')
CALLED = ModelFinished(StopReason.TOOL_CALLS, Usage(10, 2))
DONE = ModelFinished(StopReason.STOP, Usage(20, 3))
ASKED = Message(Role.ASSISTANT, (Text("I send."), A))
OPERATOR = Principal("operator", frozenset({Scope.APPROVALS}), "token")


@dataclass
class Sender:
    """A Toolbox with one tool, which counts what it sends. `gate` is where a call waits."""

    spec: ToolSpec = field(default_factory=lambda: ToolSpec("send", "Sends."))
    sent: list[tuple[ToolCall, str]] = field(default_factory=list)
    gate: Gate | None = None

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return (self.spec,)

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        self.sent.append((call, key))
        if self.gate is not None:
            await self.gate.pass_through()
        yield ToolResult(f"sent {call.id}")

    async def close(self) -> None:
        """There is nothing to release."""


@dataclass
class Native:
    """A Rig whose agent is run by the native runner."""

    toolbox: Sender = field(default_factory=Sender)
    client: FakeModelClient = field(default_factory=FakeModelClient)
    book: MemoryApprovals = field(default_factory=MemoryApprovals)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        config = settings([agent("main", ONE)])
        self.rig = Rig(
            others={"loop": self.loop()}, settings=config, clock=self.clock, steady=self.clock
        )
        self.log, self.store, self.queue = self.rig.log, self.rig.store, self.rig.queue
        loop = replace(self.rig.settings.agents.find("loop", param=""), models=(ONE,))
        others = [one for one in self.rig.settings.agents if one.id != "loop"]
        self.rig.settings = replace(
            self.rig.settings, agents=type(self.rig.settings.agents)([*others, loop], "main")
        )
        self.approvals = approvals(self.book, self.queue, self.log, self.clock)

    def loop(self) -> TurnLoop:
        router = ModelRouter(clients={"fake": self.client}, cooldowns=Cooldowns(self.clock))
        return TurnLoop(
            router,
            self.toolbox,
            self.book,
            clock=self.clock,
            monotonic=self.clock,
            validate=fitting,
        )

    def limit(self, limits: RunLimits) -> None:
        """Give the agent these limits."""
        directory = self.rig.settings.agents
        agents = [replace(one, limits=limits) for one in directory]
        self.rig.settings = replace(self.rig.settings, agents=type(directory)(agents, "main"))

    async def start(self, **changes: Any) -> None:
        await self.queue.enqueue(a_run(**changes))

    async def until(self, status: RunStatus, run_id: str = "run-1") -> None:
        while self.log.record(run_id).status is not status:
            await self.log.growth(run_id)

    async def end(self, run_id: str = "run-1") -> RunEvent:
        return await self.log.end_of(run_id)

    def seen(self, *kinds: type) -> list[RunEvent]:
        return [event for event in self.log.events["run-1"] if isinstance(event, kinds)]


def approvals(book: MemoryApprovals, queue: LocalQueue, log: Any, clock: FakeClock) -> Approvals:
    return Approvals(book=book, queue=queue, signals=queue, run_events=log, clock=clock)


def fitting(tool: ToolSpec, arguments: Mapping[str, object]) -> str | None:
    """A Validate that refuses calls with `bad`."""
    return "'bad' is not allowed" if "bad" in arguments else None


def a_run(run_id: str = "run-1", **changes: Any) -> RunSpec:
    return run(run_id, **{"agent_id": "loop", "messages": (user("Send it."),), **changes})


def call_of(index: int, call: ToolCall) -> ToolCallDelta:
    return ToolCallDelta(index, call.id, call.name, call.arguments)


def asks(client: FakeModelClient, *calls: ToolCall) -> None:
    deltas = [call_of(index, call) for index, call in enumerate(calls)]
    client.script("acme/one", TextDelta("I send."), *deltas, CALLED)


def answers(client: FakeModelClient, text: str = "Sent.") -> None:
    client.script("acme/one", TextDelta(text), DONE)


async def test_a_call_is_stored_before_it_is_begun_and_its_result_before_it_is_appended() -> None:
    native = Native(Sender(gate=Gate()))
    asks(native.client, A)
    answers(native.client)
    gate = native.toolbox.gate
    assert gate is not None
    await native.start()
    await gate.reached.wait()

    (open_turn,) = await native.store.open_turns()
    turn = await native.store.open_turn(open_turn.run_id, 1)
    assert turn is not None
    assert [(step.message, step.results) for step in turn.steps] == [(ASKED, ())]
    assert turn.steps[0].begun == {"a": Repeat.UNSAFE}
    assert turn.question == (user("Send it."),)

    gate.opened.set()
    assert isinstance(await native.end(), Finished)
    assert native.seen(ToolStarted, ToolFinished, StepDone) == [
        ToolStarted("a", "send", "{}"),
        ToolFinished("a", False, "sent a"),
        StepDone(1),
    ]
    (stored,) = native.store.turns
    assert stored.messages == (
        user("Send it."),
        ASKED,
        result_of(A, ToolResult("sent a")),
        assistant("Sent."),
    )
    assert stored.usage == Usage(30, 5)
    assert await native.store.open_turns() == ()


async def test_a_failure_after_a_step_keeps_what_the_tool_did() -> None:
    native = Native()
    asks(native.client, A)
    native.client.script("acme/one", ModelFailed(FailureKind.AUTH, "no such key"))
    await native.start()

    assert isinstance(await native.end(), Failed)

    (stored,) = native.store.turns
    assert stored.messages[:-1] == (user("Send it."), ASKED, result_of(A, ToolResult("sent a")))
    assert stored.messages[-1].role is Role.ASSISTANT
    assert "no such key" in stored.messages[-1].text
    assert await native.store.open_turns() == ()


@dataclass
class DiskFiller(Sender):
    """Its calls leave no room for a turn."""

    store: FakeStore | None = None

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        assert self.store is not None
        self.store.append_failure = StoreFailed("disk full")
        async with aclosing(super().run(context, call, key=key)) as outputs:
            async for output in outputs:
                yield output


async def test_what_a_full_disk_did_not_take_is_stored_before_the_next_run() -> None:
    toolbox = DiskFiller()
    native = Native(toolbox)
    toolbox.store = native.store
    asks(native.client, A)
    native.client.script("acme/one", ModelFailed(FailureKind.AUTH, "no such key"))
    answers(native.client)
    await native.start()
    assert isinstance(await native.end(), Failed)
    assert native.store.turns == []

    await native.start(id="run-2")
    assert isinstance(await native.end("run-2"), Failed)
    native.store.append_failure = None
    await native.start(id="run-3")
    assert isinstance(await native.end("run-3"), Finished)

    first, last = native.store.turns
    assert (first.run_id, last.run_id) == ("run-1", "run-3")
    assert "no such key" in first.messages[-1].text
    assert native.client.requests[-1].messages[: len(first.messages)] == first.messages
    assert await native.store.open_turns() == ()


async def test_a_failure_before_any_call_keeps_nothing() -> None:
    native = Native()
    native.client.script("acme/one", ModelFailed(FailureKind.AUTH, "no such key"))
    await native.start()

    assert isinstance(await native.end(), Failed)
    assert native.store.turns == []


async def test_an_abort_in_a_call_tells_the_model_that_its_effect_is_not_known() -> None:
    native = Native(Sender(gate=Gate()))
    asks(native.client, A, B)
    gate = native.toolbox.gate
    assert gate is not None
    await native.start()
    await gate.reached.wait()

    assert await native.queue.abort("run-1", "Enough.")

    assert isinstance(await native.end(), Aborted)
    (stored,) = native.store.turns
    asked, first, second, note = stored.messages[1:]
    assert asked.text == "I send."
    assert first == failed_result(A, INTERRUPTED)
    assert second.tool_call_id == "b"
    assert second.text.startswith("not run")
    assert "Enough." in note.text


@dataclass
class Pair:
    """Two processes with native runners over one store, one queue and one log."""

    toolbox: Sender
    client: FakeModelClient = field(default_factory=FakeModelClient)

    def __post_init__(self) -> None:
        clock = FakeClock()
        router = ModelRouter(clients={"fake": self.client}, cooldowns=Cooldowns(clock))
        loop = TurnLoop(router, self.toolbox, MemoryApprovals(), clock=clock)
        self.cluster = Cluster(settings([agent("main", ONE)]), runner=loop)


@pytest.mark.parametrize(
    ("repeat", "calls", "result"),
    [
        (Repeat.UNSAFE, 1, INTERRUPTED),
        (Repeat.SAFE, 2, "sent a"),
        (Repeat.KEYED, 2, "sent a"),
    ],
)
async def test_another_process_goes_on_from_the_last_step(
    repeat: Repeat, calls: int, result: str
) -> None:
    gate = Gate()
    pair = Pair(Sender(ToolSpec("send", "Sends.", repeat=repeat), gate=gate))
    cluster = pair.cluster
    asks(pair.client, A)
    answers(pair.client)
    await cluster.queue.enqueue(run(messages=(user("Send it."),)))
    await gate.reached.wait()
    cluster.one.line.is_cut = True
    pair.toolbox.gate = None

    cluster.expire()

    assert isinstance(await cluster.log.end_of("run-1"), Finished)
    assert len(pair.toolbox.sent) == calls
    assert len(set(pair.toolbox.sent)) == 1, "each attempt has the same key"
    (stored,) = cluster.store.turns
    assert stored.messages[1:3] == (ASKED, result_of(A, ToolResult(result)))
    events = cluster.log.events["run-1"]
    (resumed,) = [event for event in events if isinstance(event, Resumed)]
    assert resumed.void == 0, "everything before the call is stored"
    gate.opened.set()  # The first process wakes up, and changes nothing any more.
    await asyncio.sleep(0)
    assert cluster.store.turns == [stored]


@dataclass
class Reader(Sender):
    """The call b waits at the gate; others do not."""

    spec: ToolSpec = field(
        default_factory=lambda: ToolSpec(
            "send", "Sends.", effects=frozenset((Effect.READ,)), repeat=Repeat.SAFE
        )
    )

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        self.sent.append((call, key))
        if call == B and self.gate is not None:
            await self.gate.pass_through()
        yield ToolResult(f"sent {call.id}")


async def test_of_calls_that_ran_at_the_same_time_only_those_without_a_result_run_again() -> None:
    gate = Gate()
    pair = Pair(Reader(gate=gate))
    cluster = pair.cluster
    asks(pair.client, A, B)
    answers(pair.client)
    await cluster.queue.enqueue(run(messages=(user("Send it."),)))
    await gate.reached.wait()
    while ToolFinished("a", False, "sent a") not in cluster.log.events["run-1"]:
        await cluster.log.growth("run-1")
    cluster.one.line.is_cut = True
    pair.toolbox.gate = None

    cluster.expire()

    assert isinstance(await cluster.log.end_of("run-1"), Finished)
    assert [call.id for call, _ in pair.toolbox.sent] == ["a", "b", "b"]
    (stored,) = cluster.store.turns
    assert stored.messages[2:4] == (
        result_of(A, ToolResult("sent a")),
        result_of(B, ToolResult("sent b")),
    )
    gate.opened.set()


def asking() -> Native:
    return Native(Sender(ToolSpec("send", "Sends.", ask=True)))


async def test_a_call_waits_for_its_approval_and_then_runs() -> None:
    native = asking()
    asks(native.client, A)
    answers(native.client)
    await native.start()
    await native.until(RunStatus.WAITING)
    assert (len(native.rig.executor), native.rig.lanes.working) == (0, 0)
    assert native.toolbox.sent == []
    (approval,) = await native.approvals.pending(OPERATOR)
    assert (approval.call, approval.run_id, approval.agent_id) == (A, "run-1", "loop")
    (waiting,) = native.seen(Waiting)
    assert isinstance(waiting, Waiting)
    assert waiting.approval_id == approval.id

    decided = await native.approvals.decide(OPERATOR, approval.id, Decision.ALLOW)

    assert (decided.decision, decided.decided_by) == (Decision.ALLOW, "operator")
    assert isinstance(await native.end(), Finished)
    assert [call for call, _ in native.toolbox.sent] == [A]
    assert await native.approvals.pending(OPERATOR) == ()
    with pytest.raises(ApprovalDecided):
        await native.approvals.decide(OPERATOR, approval.id, Decision.DENY)


async def test_an_approval_is_for_the_arguments_that_were_shown() -> None:
    """An attempt that died before it stored its step leaves an approval behind."""
    died = asking()
    native = Native(died.toolbox, book=died.book)
    asks(died.client, replace(A, arguments='{"to": "ada"}'))
    asks(native.client, replace(A, arguments='{"to": "eve"}'))
    await died.start()
    await died.until(RunStatus.WAITING)
    (shown,) = await died.book.pending()
    await died.book.decide(shown.id, Decision.ALLOW, by="operator", at=1_001.0)

    await native.start()
    await native.until(RunStatus.WAITING)

    assert native.toolbox.sent == []
    (pending,) = await died.book.pending()
    assert pending.call.arguments == '{"to": "eve"}'


async def test_a_denied_call_is_not_run_and_the_model_goes_on() -> None:
    native = asking()
    asks(native.client, A)
    answers(native.client, "As you wish.")
    await native.start()
    await native.until(RunStatus.WAITING)
    (approval,) = await native.approvals.pending(OPERATOR)

    await native.approvals.decide(OPERATOR, approval.id, Decision.DENY)

    assert isinstance(await native.end(), Finished)
    assert native.toolbox.sent == []
    assert "denied" in native.client.requests[-1].messages[-1].text
    started, finished = native.seen(ToolStarted, ToolFinished)
    assert started == ToolStarted("a", "send", A.arguments)
    assert isinstance(finished, ToolFinished)
    assert finished.is_error


async def test_a_call_that_nobody_decides_on_is_denied_in_the_end() -> None:
    native = asking()
    asks(native.client, A)
    answers(native.client)
    await native.start()
    await native.until(RunStatus.WAITING)
    (approval,) = await native.approvals.pending(OPERATOR)
    await native.approvals.expire()
    assert native.log.record("run-1").status is RunStatus.WAITING

    native.clock.advance(601)
    await native.approvals.expire()

    assert isinstance(await native.end(), Finished)
    assert native.toolbox.sent == []
    with pytest.raises(ApprovalDecided):
        await native.approvals.decide(OPERATOR, approval.id, Decision.ALLOW)


async def test_each_call_of_a_step_has_its_own_approval() -> None:
    native = asking()
    asks(native.client, A, B)
    answers(native.client)
    await native.start()
    await native.until(RunStatus.WAITING)
    first, second = await native.approvals.pending(OPERATOR)

    await native.approvals.decide(OPERATOR, second.id, Decision.ALLOW)
    while len(native.seen(Waiting)) < 2:
        await native.log.growth("run-1")
    assert [call for call, _ in native.toolbox.sent] == [second.call]
    await native.approvals.decide(OPERATOR, first.id, Decision.DENY)

    assert isinstance(await native.end(), Finished)
    assert len(native.toolbox.sent) == 1


async def test_nobody_is_asked_about_a_malformed_call() -> None:
    native = asking()
    asks(native.client, replace(A, arguments='{"bad":1}'))
    answers(native.client)
    await native.start()

    assert isinstance(await native.end(), Finished)
    assert await native.approvals.pending(OPERATOR) == ()
    assert native.toolbox.sent == []


@pytest.mark.parametrize(
    ("working", "stop"), [(59.0, StopReason.STOP), (60.0, StopReason.MAX_SECONDS)]
)
async def test_the_time_limit_counts_work_and_no_waiting(working: float, stop: StopReason) -> None:
    native = asking()
    native.limit(RunLimits(seconds=60))
    gate = native.toolbox.gate = Gate()
    asks(native.client, A, B)
    answers(native.client)
    await native.start()
    await native.until(RunStatus.WAITING)
    native.clock.advance(500)
    first, second = await native.approvals.pending(OPERATOR)
    await native.approvals.decide(OPERATOR, first.id, Decision.ALLOW)
    await gate.reached.wait()
    native.clock.advance(working)
    gate.opened.set()
    while len(native.seen(Waiting)) < 2 and not native.seen(Finished):
        await native.log.growth("run-1")
    if not native.seen(Finished):
        await native.approvals.decide(OPERATOR, second.id, Decision.ALLOW)

    ending = await native.end()

    assert isinstance(ending, Finished)
    assert ending.stop is stop
    assert len(native.toolbox.sent) == (2 if stop is StopReason.STOP else 1)


async def test_another_turn_of_the_session_is_answered_while_a_run_waits() -> None:
    native = asking()
    asks(native.client, A)
    answers(native.client, "Hello.")
    answers(native.client)
    await native.start()
    await native.until(RunStatus.WAITING)
    await native.start(run_id="run-2", messages=(user("Hello?"),))
    assert isinstance(await native.end("run-2"), Finished)

    (approval,) = await native.approvals.pending(OPERATOR)
    await native.approvals.decide(OPERATOR, approval.id, Decision.ALLOW)

    assert isinstance(await native.end(), Finished)
    assert [turn.run_id for turn in native.store.turns] == ["run-2", "run-1"]
    assert native.client.requests[-1].messages[:3] == (
        user("Hello?"),
        assistant("Hello."),
        user("Send it."),
    )


async def test_a_message_reaches_a_waiting_run_behind_the_results() -> None:
    native = asking()
    asks(native.client, A)
    answers(native.client)
    await native.start()
    await native.until(RunStatus.WAITING)

    assert await native.queue.inject("run-1", user("Quickly."))
    while len(native.seen(Waiting)) < 2:
        await native.log.growth("run-1")
    (approval,) = await native.approvals.pending(OPERATOR)
    await native.approvals.decide(OPERATOR, approval.id, Decision.ALLOW)

    assert isinstance(await native.end(), Finished)
    assert native.client.requests[-1].messages[-2:] == (
        result_of(A, ToolResult("sent a")),
        user("Quickly."),
    )


async def test_an_aborted_run_waits_for_no_approval() -> None:
    native = asking()
    asks(native.client, A)
    await native.start()
    await native.until(RunStatus.WAITING)
    (approval,) = await native.approvals.pending(OPERATOR)

    assert await native.queue.abort("run-1", "Enough.")

    assert await native.approvals.pending(OPERATOR) == ()
    with pytest.raises(ApprovalDecided, match="has ended"):
        await native.approvals.decide(OPERATOR, approval.id, Decision.ALLOW)


async def test_an_abort_of_a_waiting_run_keeps_what_its_tools_did() -> None:
    native = asking()
    asks(native.client, A)
    asks(native.client, B)
    answers(native.client)
    await native.start()
    await native.until(RunStatus.WAITING)
    (approval,) = await native.approvals.pending(OPERATOR)
    await native.approvals.decide(OPERATOR, approval.id, Decision.ALLOW)
    while len(native.seen(Waiting)) < 2:
        await native.log.growth("run-1")

    assert await native.queue.abort("run-1", "Enough.")
    await native.start(run_id="run-2", messages=(user("Hello?"),))
    assert isinstance(await native.end("run-2"), Finished)

    stored, _ = native.store.turns
    assert stored.run_id == "run-1"
    assert stored.messages[:3] == (user("Send it."), ASKED, result_of(A, ToolResult("sent a")))
    assert "Enough." in stored.messages[-1].text
    assert await native.store.open_turns() == ()


async def test_a_decision_after_the_drain_began_is_for_the_next_process() -> None:
    native = asking()
    asks(native.client, A)
    answers(native.client)
    await native.start()
    await native.until(RunStatus.WAITING)
    (approval,) = await native.approvals.pending(OPERATOR)
    native.queue.refuse()

    await native.approvals.decide(OPERATOR, approval.id, Decision.ALLOW)

    await native.rig.executor.drain(0)
    assert native.log.record("run-1").status is RunStatus.WAITING
    assert native.toolbox.sent == []


async def test_only_who_may_decide_sees_an_approval() -> None:
    native = asking()
    asks(native.client, A)
    await native.start(principal_id="owner")
    await native.until(RunStatus.WAITING)
    (approval,) = await native.approvals.pending(OPERATOR)
    scopes = frozenset({Scope.APPROVALS})
    others = [
        Principal("guest", scopes, "token", agents=frozenset({"loop"})),
        Principal("owner", scopes, "token", agents=frozenset({"main"})),
    ]

    for other in others:
        assert await native.approvals.pending(other) == ()
        with pytest.raises(UnknownApproval):
            await native.approvals.decide(other, approval.id, Decision.ALLOW)
    with pytest.raises(Forbidden):
        await native.approvals.pending(Principal("reader", frozenset({Scope.READ}), "token"))
    owner = Principal("owner", scopes, "token", agents=frozenset({"loop"}))
    assert await native.approvals.pending(owner) == (approval,)


async def test_a_decision_that_was_not_passed_on_is_passed_on_after_a_restart() -> None:
    native = asking()
    asks(native.client, A)
    answers(native.client)
    await native.start()
    await native.until(RunStatus.WAITING)
    (approval,) = await native.approvals.pending(OPERATOR)
    await native.book.decide(approval.id, Decision.ALLOW, by="operator", at=1_001.0)

    await native.approvals.recover()

    assert isinstance(await native.end(), Finished)
    assert len(native.toolbox.sent) == 1


async def test_a_run_that_waits_for_a_decision_waits_on_after_a_restart() -> None:
    native = asking()
    asks(native.client, A)
    await native.start()
    await native.until(RunStatus.WAITING)

    await native.approvals.recover()

    assert native.log.record("run-1").status is RunStatus.WAITING


async def test_a_queue_without_runs_has_nothing_to_recover() -> None:
    queue, clock = FakeQueue(), FakeClock()
    rig = Rig()
    service = Approvals(
        book=MemoryApprovals(), queue=queue, signals=queue, run_events=rig.log, clock=clock
    )
    await service.recover()
    await service.expire()
    assert await service.pending(OPERATOR) == ()
