"""The native runner with tools: a call of the model, the calls of its tools, and so on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from opensoul.adapters.persistence.memory import MemoryApprovals
from opensoul.adapters.providers.http import FailureFactory
from opensoul.adapters.providers.openai import CHAT_COMPLETIONS
from opensoul.adapters.providers.openai.request import Encoder, body
from opensoul.adapters.tools import EmptyToolbox
from opensoul.domain.agents import RunLimits
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.execution.loop import TurnLoop
from opensoul.domain.execution.router import ModelRouter
from opensoul.domain.messages import Message, Role, Text, ToolCall
from opensoul.domain.models.calls import (
    ModelFinished,
    ModelRequest,
    StopReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from opensoul.domain.models.cooldowns import Cooldowns
from opensoul.domain.ports import RunContext, Toolbox, ToolContext
from opensoul.domain.runs.events import (
    Answered,
    RunnerEvent,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
)
from opensoul.domain.runs.journal import Journal, result_of
from opensoul.domain.sessions import Transcript
from opensoul.domain.tools import Effect, ToolOutput, ToolResult, ToolSpec
from tests.fakes.domain import FakeClock, FakeModelClient, Gate, agent, assistant, target, user
from tests.fakes.domain import run as a_run

ONE, TWO = target("acme/one"), target("acme/two")
WEATHER = ToolSpec("weather", "The weather of a city.", {"type": "object"})
CALL = ToolCall("c1", "weather", '{"city":"Bern"}')
OTHER = ToolCall("c2", "weather", "{}")
CALLED = ModelFinished(StopReason.TOOL_CALLS, Usage(10, 2))
DONE = ModelFinished(StopReason.STOP, Usage(20, 3))


@dataclass
class Weather:
    """A Toolbox of one tool; `closed` counts calls whose stream was closed."""

    outputs: Sequence[ToolOutput | ToolResult] = (ToolOutput("looking"), ToolResult("sunny"))
    seen: list[tuple[ToolCall, str]] = field(default_factory=list)
    closed: int = 0

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return (WEATHER,)

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        self.seen.append((call, key))
        try:
            for output in self.outputs:
                yield output
        finally:
            self.closed += 1

    async def close(self) -> None:
        """There is nothing to release."""


@dataclass
class Hanging(Weather):
    """Its calls wait until `opened` is set."""

    spec: ToolSpec = WEATHER
    begun: list[ToolCall] = field(default_factory=list)
    opened: dict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return (self.spec,)

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        self.begun.append(call)
        self.changed.set()
        try:
            yield ToolOutput(f"looking for {call.id}")
            await self.opened[call.id].wait()
            yield ToolResult(f"sunny for {call.id}")
        finally:
            self.closed += 1

    async def until(self, begun: int) -> None:
        """Return once so many calls were begun."""
        while len(self.begun) < begun:
            self.changed.clear()
            await self.changed.wait()


@pytest.fixture
def client() -> FakeModelClient:
    return FakeModelClient()


def loop(client: FakeModelClient, toolbox: Toolbox, **more: Any) -> TurnLoop:
    router = ModelRouter(clients={"fake": client}, cooldowns=Cooldowns(FakeClock()))
    return TurnLoop(router, toolbox, MemoryApprovals(), clock=FakeClock(), **more)


async def events_of(runner: TurnLoop, **changes: Any) -> list[RunnerEvent]:
    """The events of a Run; `changes` are those of its agent."""
    who = replace(agent("main", ONE, TWO), **changes)
    context = RunContext(a_run(messages=(user("Nice?"),)), who)
    events: list[RunnerEvent] = []
    async with aclosing(runner.run(context)) as stream:
        async for batch in stream:
            events += batch
    return events


def call_of(index: int, call: ToolCall) -> list[ToolCallDelta]:
    """The call in two pieces, as providers stream it."""
    half = len(call.arguments) // 2
    first, rest = call.arguments[:half], call.arguments[half:]
    return [ToolCallDelta(index, call.id, call.name, first), ToolCallDelta(index, arguments=rest)]


async def test_the_model_goes_on_with_the_results_of_its_calls(client: FakeModelClient) -> None:
    client.script("acme/one", TextDelta("I look."), *call_of(0, CALL), CALLED)
    client.script("acme/one", TextDelta("It is."), DONE)
    toolbox = Weather()

    events = await events_of(loop(client, toolbox))

    step = Message(Role.ASSISTANT, (Text("I look."), CALL))
    result = result_of(CALL, ToolResult("sunny"))
    assert events == [
        TextDelta("I look."),
        TextDelta("\n\n"),
        ToolStarted("c1", "weather", CALL.arguments),
        ToolProgress("c1", "looking"),
        ToolFinished("c1", False, "sunny"),
        StepDone(1),
        TextDelta("It is."),
        Answered((step, result, assistant("It is.")), StopReason.STOP, Usage(30, 5), "acme/one"),
    ]
    assert client.requests[0].tools == client.requests[1].tools == (WEATHER,)
    assert client.requests[1].messages == (user("Nice?"), step, result)
    assert toolbox.closed == 1


@pytest.mark.parametrize(
    ("texts", "followed"),
    [
        (("I look.", "It is."), "I look.\n\nIt is."),
        (("I look.\n", "It is."), "I look.\n\nIt is."),
        (("I look.\n\n", "It is."), "I look.\n\nIt is."),
        (("", "It is."), "It is."),
    ],
)
async def test_the_texts_of_steps_are_apart_for_followers_and_as_they_are_in_the_transcript(
    client: FakeModelClient, texts: tuple[str, str], followed: str
) -> None:
    client.script("acme/one", TextDelta(texts[0]), *call_of(0, CALL), CALLED)
    client.script("acme/one", TextDelta(texts[1]), DONE)

    events = await events_of(loop(client, Weather()))

    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == followed
    (end,) = [event for event in events if isinstance(event, Answered)]
    said = [message.text for message in end.messages if message.role is Role.ASSISTANT]
    assert said == list(texts)


async def test_every_call_has_an_id_and_a_key_of_its_own(client: FakeModelClient) -> None:
    """Providers may number the calls of each answer anew."""
    client.script("acme/one", *call_of(0, CALL), *call_of(1, OTHER), CALLED)
    client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/one", TextDelta("Yes."), DONE)
    toolbox = Weather()

    await events_of(loop(client, toolbox))

    calls, keys = zip(*toolbox.seen, strict=True)
    assert calls == (CALL, OTHER, replace(CALL, id="c1-2"))
    assert client.requests[2].messages[-1].tool_call_id == "c1-2"
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        pytest.param([ToolResult("no such city", is_error=True)], "no such city", id="failed"),
        pytest.param(
            [ToolOutput("looking")], "The tool ended without a result.", id="without a result"
        ),
    ],
)
async def test_a_failed_call_is_for_the_model_to_deal_with(
    client: FakeModelClient, outputs: Sequence[ToolOutput | ToolResult], text: str
) -> None:
    client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/one", TextDelta("Sorry."), DONE)

    events = await events_of(loop(client, Weather(outputs)))

    assert ToolFinished("c1", True, text) in events
    assert client.requests[1].messages[-1].is_error
    assert client.requests[1].messages[-1] == result_of(CALL, ToolResult(text))


async def test_followers_get_the_beginning_of_a_long_result(client: FakeModelClient) -> None:
    long = "x" * 100_000
    client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/one", TextDelta("Yes."), DONE)

    events = await events_of(loop(client, Weather([ToolResult(long)])))

    (shown,) = [event.text for event in events if isinstance(event, ToolFinished)]
    assert len(shown) < 10_000


async def test_the_model_gets_less_of_a_long_result_than_the_store(client: FakeModelClient) -> None:
    long = "x" * 300
    client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/one", TextDelta("Yes."), DONE)

    events = await events_of(loop(client, Weather([ToolResult(long)])), max_result_chars=100)

    assert "200 characters are left out" in client.requests[1].messages[-1].text
    (answered,) = (event for event in events if isinstance(event, Answered))
    assert answered.messages[1].text == long


TWO_STEPS = RunLimits(steps=2)
AT_THE_LIMIT = "[The run has reached its limit of 2 steps (maxSteps) and ends without an answer: "


async def test_at_a_limit_the_model_answers_in_words(client: FakeModelClient) -> None:
    for _ in range(2):
        client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/one", TextDelta("Probably."), DONE)

    events = await events_of(loop(client, Weather()), limits=TWO_STEPS)

    last = events[-1]
    assert isinstance(last, Answered)
    assert (last.stop, last.usage) == (StopReason.MAX_STEPS, Usage(40, 7))
    assert last.messages[-1] == assistant("Probably.")
    assert [request.tools for request in client.requests] == [(WEATHER,), (WEATHER,), ()]
    notice = client.requests[-1].messages[-1]
    assert "its limit of 2 steps (maxSteps)" in notice.text
    assert notice not in last.messages


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        pytest.param(
            [*call_of(0, CALL), CALLED],
            f"{AT_THE_LIMIT}the model called a tool again]",
            id="a call",
        ),
        pytest.param(
            [TextDelta("I look."), *call_of(0, CALL), CALLED],
            f"I look.\n\n{AT_THE_LIMIT}the model called a tool again]",
            id="a call after a text",
        ),
        pytest.param([DONE], f"{AT_THE_LIMIT}the model gave no answer in words]", id="nothing"),
        pytest.param(
            [TextDelta("It"), ModelFailed(FailureKind.TIMEOUT, "silence")],
            f"It\n\n{AT_THE_LIMIT}the call of the model failed: silence]",
            id="a failure",
        ),
    ],
)
async def test_a_run_at_its_limit_ends_truthfully_without_an_answer_in_words(
    client: FakeModelClient, script: Sequence[Any], answer: str
) -> None:
    for _ in range(2):
        client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/one", *script)

    events = await events_of(loop(client, Weather()), limits=TWO_STEPS)

    last = events[-1]
    assert isinstance(last, Answered)
    assert last.stop is StopReason.MAX_STEPS
    assert last.messages[-1] == assistant(answer)
    done = events.index(StepDone(2))
    said = [event.text for event in events[done:] if isinstance(event, TextDelta)]
    assert "".join(said) == answer


async def test_at_the_time_limit_a_tool_is_stopped(client: FakeModelClient) -> None:
    client.script("acme/one", *call_of(0, CALL), *call_of(1, OTHER), CALLED)
    client.script("acme/one", TextDelta("Too slow."), DONE)
    toolbox = Hanging()

    events = await events_of(loop(client, toolbox), limits=RunLimits(seconds=0.01))

    last = events[-1]
    assert isinstance(last, Answered)
    assert last.stop is StopReason.MAX_SECONDS
    first, second = last.messages[1:3]
    assert first.text.startswith("stopped: the run has reached its time limit")
    assert second.text.startswith("not run: the run has reached its limit of 0.01 seconds")
    assert (toolbox.begun, toolbox.closed) == ([CALL], 1)


@pytest.mark.parametrize(
    ("begun", "said"),
    [
        ([], "[The run has reached its limit of 0.05 seconds (maxSeconds) and ends within"),
        ([TextDelta("It")], "It\n\n[The run has reached its limit of 0.05 seconds (maxSeconds)"),
    ],
)
async def test_at_the_time_limit_a_model_call_is_stopped_and_its_text_is_the_answer(
    client: FakeModelClient, begun: list[TextDelta], said: str
) -> None:
    client.script("acme/one", *begun, Gate())

    events = await events_of(loop(client, Weather()), limits=RunLimits(seconds=0.05))

    last = events[-1]
    assert isinstance(last, Answered)
    assert (last.stop, len(client.requests)) == (StopReason.MAX_SECONDS, 1)
    assert last.messages[-1].text.startswith(said)
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    assert "".join(texts) == last.messages[-1].text
    assert client.streaming == 0


async def test_a_model_call_that_is_stopped_before_its_first_word_is_made_again_without_tools(
    client: FakeModelClient,
) -> None:
    client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/one", Gate())
    client.script("acme/one", TextDelta("Sunny, so far."), DONE)

    events = await events_of(loop(client, Weather()), limits=RunLimits(seconds=0.5))

    last = events[-1]
    assert isinstance(last, Answered)
    assert (last.stop, last.messages[-1].text) == (StopReason.MAX_SECONDS, "Sunny, so far.")
    assert [len(request.tools) for request in client.requests] == [1, 1, 0]
    assert "its limit of 0.5 seconds" in client.requests[-1].messages[-1].text
    assert client.streaming == 0


async def test_five_equal_calls_in_a_row_end_the_run(client: FakeModelClient) -> None:
    for _ in range(5):
        client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/one", TextDelta("It stays sunny."), DONE)
    toolbox = Weather()

    events = await events_of(loop(client, toolbox))

    last = events[-1]
    assert isinstance(last, Answered)
    assert (last.stop, len(toolbox.seen)) == (StopReason.REPEATED_CALL, 5)
    warned = ["in a row" in request.messages[-1].text for request in client.requests[1:-1]]
    assert warned == [False, False, True, True]
    assert all("in a row" not in message.text for message in last.messages)


async def test_closing_the_stream_closes_the_tool(client: FakeModelClient) -> None:
    client.script("acme/one", *call_of(0, CALL), CALLED)
    toolbox = Weather()
    context = RunContext(a_run(messages=(user("Nice?"),)), agent("main", ONE))

    async with aclosing(loop(client, toolbox).run(context)) as stream:
        async for batch in stream:
            if any(isinstance(event, ToolProgress) for event in batch):
                break

    assert toolbox.closed == 1
    assert client.streaming == 0


async def test_without_tools_a_call_is_a_failure_of_the_model(client: FakeModelClient) -> None:
    client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/two", TextDelta("Yes."), DONE)

    events = await events_of(loop(client, EmptyToolbox()))

    assert isinstance(events[-1], Answered)
    assert events[-1].model == "acme/two"
    assert [request.tools for request in client.requests] == [(), ()]


async def test_a_call_that_breaks_off_is_made_by_the_fallback(client: FakeModelClient) -> None:
    broken = ModelFailed(FailureKind.BAD_RESPONSE, "cut")
    client.script("acme/one", call_of(0, CALL)[0], broken)
    client.script("acme/two", TextDelta("Yes."), DONE)
    toolbox = Weather()

    await events_of(loop(client, toolbox))

    assert toolbox.seen == []


@pytest.mark.parametrize("tools", [(), (WEATHER,)])
def test_a_provider_is_told_of_tools_where_there_are_any(tools: tuple[ToolSpec, ...]) -> None:
    request = ModelRequest(ONE, (user("Nice?"),), tools=tools)

    sent = orjson.loads(body(request, Encoder(), FailureFactory(ONE, CHAT_COMPLETIONS)))

    described = {"description": WEATHER.description, "parameters": {"type": "object"}}
    function = {"type": "function", "function": {"name": "weather", **described}}
    assert sent.get("tools") == ([function] if tools else None)


def refusing(tool: ToolSpec, arguments: Mapping[str, object]) -> str | None:
    """A Validate for a tool that needs a city."""
    return None if "city" in arguments else "'city' is missing"


@pytest.mark.parametrize(
    ("written", "kept", "text"),
    [
        pytest.param(
            ToolCall("c1", "wether", "{}"),
            ToolCall("c1", "wether", "{}"),
            "There is no tool 'wether'. The tools are: weather.",
            id="an unknown tool",
        ),
        pytest.param(
            ToolCall("c1", "weather<|now|>", "{}"),
            ToolCall("c1", "weather__now__", "{}"),
            "There is no tool 'weather<|now|>'. The tools are: weather.",
            id="a name that providers refuse",
        ),
        pytest.param(
            ToolCall("c1", "", "{}"),
            ToolCall("c1", "unnamed", "{}"),
            "The call names no tool. The tools are: weather.",
            id="no name",
        ),
        pytest.param(
            ToolCall("c1", "weather", "[1]"),
            ToolCall("c1", "weather", "{}"),
            "The arguments must be a JSON object, but they are: '[1]'.",
            id="a list of arguments",
        ),
        pytest.param(
            ToolCall("c1", "weather", '{"city":'),
            ToolCall("c1", "weather", "{}"),
            "The arguments must be a JSON object, but they are no valid JSON "
            "(Expecting value: line 1 column 9 (char 8)): '{\"city\":'.",
            id="half an object",
        ),
        pytest.param(
            ToolCall("c1", "weather", '{"city":NaN}'),
            ToolCall("c1", "weather", "{}"),
            "The arguments must be a JSON object, but they are no valid JSON "
            "(NaN is no JSON value): '{\"city\":NaN}'.",
            id="a value of JavaScript",
        ),
        pytest.param(
            ToolCall("c1", "weather", '{"city":-1e999}'),
            ToolCall("c1", "weather", "{}"),
            "The arguments must be a JSON object, but they are no valid JSON "
            "(a number is too large): '{\"city\":-1e999}'.",
            id="a number that is infinite elsewhere",
        ),
        pytest.param(
            ToolCall("c1", "weather", f'{{"city":{"9" * 150}{"9" * 160}}}'),
            ToolCall("c1", "weather", "{}"),
            "The arguments must be a JSON object, but they are no valid JSON "
            f"(a number is too large): '{{\"city\":{'9' * 192}\u2026'.",
            id="an integer that is infinite elsewhere",
        ),
        pytest.param(
            ToolCall("c1", "weather", "[" * 100_000),
            ToolCall("c1", "weather", "{}"),
            "The arguments must be a JSON object, but they are no valid JSON "
            f"(it is nested too deeply): '{'[' * 200}\u2026'.",
            id="nested too deeply",
        ),
        pytest.param(
            ToolCall("c1", "weather", '{"town":"Bern"}'),
            ToolCall("c1", "weather", '{"town":"Bern"}'),
            "The arguments do not fit the parameters of weather: 'city' is missing",
            id="arguments that the schema refuses",
        ),
    ],
)
async def test_a_malformed_call_is_answered_and_not_run(
    client: FakeModelClient, written: ToolCall, kept: ToolCall, text: str
) -> None:
    client.script("acme/one", *call_of(0, written), CALLED)
    client.script("acme/one", TextDelta("Sorry."), DONE)
    toolbox = Weather()

    events = await events_of(loop(client, toolbox, validate=refusing))

    assert toolbox.seen == []
    assert events[:3] == [
        ToolStarted("c1", kept.name, kept.arguments),
        ToolFinished("c1", True, text),
        StepDone(1),
    ]
    assert client.requests[1].messages[-1].is_error
    assert client.requests[1].messages[1:] == (
        Message(Role.ASSISTANT, (kept,)),
        result_of(kept, ToolResult(text)),
    )


async def test_the_calls_beside_a_malformed_one_are_run(client: FakeModelClient) -> None:
    client.script("acme/one", *call_of(0, OTHER), *call_of(1, CALL), CALLED)
    client.script("acme/one", TextDelta("Sorry."), DONE)
    toolbox = Weather()

    await events_of(loop(client, toolbox, validate=refusing))

    assert [call for call, _ in toolbox.seen] == [CALL]
    assert [message.tool_call_id for message in client.requests[1].messages[2:]] == ["c2", "c1"]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (["c1", "c1", "c1"], ["c1", "call_1", "call_2"]),
        (["c1", "c1", "c1-2"], ["c1", "call_1", "c1-2"]),
        (["", ""], ["call_0", "call_1"]),
    ],
)
async def test_calls_of_one_step_get_ids_of_their_own(
    client: FakeModelClient, written: list[str], kept: list[str]
) -> None:
    calls = [call_of(i, replace(CALL, id=one)) for i, one in enumerate(written)]
    client.script("acme/one", *(piece for call in calls for piece in call), CALLED)
    client.script("acme/one", TextDelta("Yes."), DONE)
    toolbox = Weather()

    await events_of(loop(client, toolbox))

    assert [call.id for call, _ in toolbox.seen] == kept
    assert [message.tool_call_id for message in client.requests[1].messages[2:]] == kept


async def test_a_call_without_arguments_has_none(client: FakeModelClient) -> None:
    client.script("acme/one", ToolCallDelta(0, "c1", "weather", " "), CALLED)
    client.script("acme/one", TextDelta("Yes."), DONE)
    toolbox = Weather()

    await events_of(loop(client, toolbox))

    assert [call.arguments for call, _ in toolbox.seen] == ["{}"]


async def test_a_call_does_not_get_the_id_of_one_in_the_history(client: FakeModelClient) -> None:
    client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/one", TextDelta("Yes."), DONE)
    toolbox = Weather()
    before = (user("Hm?"), Message(Role.ASSISTANT, (CALL,)), result_of(CALL, ToolResult("rain")))
    transcript = Transcript((*before, assistant("No.")))
    context = RunContext(a_run(messages=(user("Nice?"),)), agent("main", ONE), transcript)

    async with aclosing(loop(client, toolbox).run(context)) as stream:
        async for _ in stream:
            pass

    assert [call.id for call, _ in toolbox.seen] == ["c1-2"]


READING = replace(WEATHER, effects=frozenset((Effect.READ,)))


@dataclass
class Parallel:
    """A Run with one step of `count` calls of a tool that waits to be let go on."""

    client: FakeModelClient
    count: int
    spec: ToolSpec = READING
    commits: list[Journal] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.toolbox = Hanging(spec=self.spec)
        calls = [replace(CALL, id=f"c{number}") for number in range(self.count)]
        pieces = [piece for i, call in enumerate(calls) for piece in call_of(i, call)]
        self.client.script("acme/one", *pieces, CALLED)
        self.client.script("acme/one", TextDelta("Yes."), DONE)
        self.events: list[RunnerEvent] = []

    async def commit(self, journal: Journal) -> None:
        self.commits.append(journal)

    async def run(self) -> None:
        question = a_run(messages=(user("Nice?"),))
        context = RunContext(question, agent("main", ONE), commit=self.commit)
        async with aclosing(loop(self.client, self.toolbox).run(context)) as stream:
            async for batch in stream:
                self.events += batch
                self.grown.set()

    async def until(self, kind: type, *call_ids: str) -> None:
        """Return once there is an event of the kind for each of these calls."""
        while not set(call_ids) <= set(self.of(kind)):
            self.grown.clear()
            await self.grown.wait()

    def of(self, *kinds: type) -> list[str]:
        return [event.call_id for event in self.events if isinstance(event, kinds)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "spec", [READING, replace(WEATHER, parallel=True)], ids=["reads", "parallel"]
)
async def test_calls_of_tools_that_allow_it_run_at_the_same_time(
    client: FakeModelClient, spec: ToolSpec
) -> None:
    parallel = Parallel(client, 3, spec)
    running = asyncio.create_task(parallel.run())
    await parallel.toolbox.until(3)
    assert set(parallel.commits[-1].steps[-1].begun) == {"c0", "c1", "c2"}
    for number in (2, 0, 1):
        parallel.toolbox.opened[f"c{number}"].set()
        await parallel.until(ToolFinished, f"c{number}")
    await running

    assert parallel.of(ToolStarted) == parallel.of(ToolProgress) == ["c0", "c1", "c2"]
    assert parallel.of(ToolFinished) == ["c2", "c0", "c1"]
    assert [len(journal.steps[-1].results) for journal in parallel.commits] == [0, 1, 2, 3]
    results = client.requests[1].messages[2:]
    assert [message.text for message in results] == [f"sunny for c{i}" for i in range(3)]


async def test_so_many_calls_run_at_the_same_time_and_no_more(client: FakeModelClient) -> None:
    parallel = Parallel(client, 10)
    running = asyncio.create_task(parallel.run())
    await parallel.toolbox.until(8)
    await parallel.until(ToolProgress, *(f"c{number}" for number in range(8)))
    assert len(parallel.toolbox.begun) == 8

    parallel.toolbox.opened["c3"].set()
    await parallel.toolbox.until(9)
    assert len(parallel.commits[-1].steps[-1].begun) == 9
    assert [one.tool_call_id for one in parallel.commits[-1].steps[-1].results] == ["c3"]

    for number in range(10):
        parallel.toolbox.opened[f"c{number}"].set()
    await running
    assert len(parallel.of(ToolFinished)) == 10


async def test_calls_of_other_tools_run_one_by_one(client: FakeModelClient) -> None:
    parallel = Parallel(client, 2, WEATHER)
    running = asyncio.create_task(parallel.run())
    await parallel.toolbox.until(1)
    await parallel.until(ToolProgress, "c0")
    assert len(parallel.toolbox.begun) == 1
    assert set(parallel.commits[-1].steps[-1].begun) == {"c0"}

    parallel.toolbox.opened["c0"].set()
    parallel.toolbox.opened["c1"].set()
    await running
    assert parallel.of(ToolStarted, ToolFinished) == ["c0", "c0", "c1", "c1"]


async def test_calls_that_run_at_the_same_time_are_stopped_together(
    client: FakeModelClient,
) -> None:
    parallel = Parallel(client, 3)
    running = asyncio.create_task(parallel.run())
    await parallel.toolbox.until(3)

    running.cancel()
    await asyncio.wait({running})

    assert parallel.toolbox.closed == 3
    assert parallel.of(ToolFinished) == []


@dataclass
class Raising(Hanging):
    """The call c1 raises an exception, at once."""

    error: BaseException = field(default_factory=lambda: OSError("no such device"))

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        if call.id == "c1":
            raise self.error
        async with aclosing(super().run(context, call, key=key)) as outputs:
            async for output in outputs:
                yield output


async def test_an_exception_of_a_toolbox_stops_the_calls_beside_it(client: FakeModelClient) -> None:
    parallel = Parallel(client, 3)
    parallel.toolbox = Raising(spec=READING)

    with pytest.raises(OSError, match="no such device"):
        await parallel.run()

    assert parallel.toolbox.closed == len(parallel.toolbox.begun)


async def test_a_tool_that_cancels_itself_has_failed(client: FakeModelClient) -> None:
    parallel = Parallel(client, 2)
    parallel.toolbox = Raising(spec=READING, error=asyncio.CancelledError())
    parallel.toolbox.opened["c0"].set()

    await parallel.run()

    assert ToolFinished("c1", True, "The tool was cancelled from within.") in parallel.events
    assert isinstance(parallel.events[-1], Answered)


@dataclass
class Chattering(Weather):
    """A tool with much output, which fails when it is closed. `ahead` is set once it has to wait
    for its reader."""

    ahead: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        try:
            for number in range(1_000):
                if number == 128:
                    self.ahead.set()
                yield ToolOutput(str(number))
        finally:
            self.closed += 1
            raise OSError("no such device")


async def test_a_tool_that_fails_while_it_is_stopped_holds_up_nobody(
    client: FakeModelClient,
) -> None:
    client.script("acme/one", *call_of(0, CALL), CALLED)
    toolbox = Chattering()
    context = RunContext(a_run(messages=(user("Nice?"),)), agent("main", ONE))

    async with asyncio.timeout(30), aclosing(loop(client, toolbox).run(context)) as stream:
        async for batch in stream:
            if any(isinstance(event, ToolProgress) for event in batch):
                await toolbox.ahead.wait()
                break

    assert toolbox.closed == 1


def test_the_choice_of_a_tool_reaches_the_provider() -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    request = ModelRequest(ONE, (user("Nice?"),), {"tool_choice": choice}, (WEATHER,))

    sent = orjson.loads(body(request, Encoder(), FailureFactory(ONE, CHAT_COMPLETIONS)))

    assert sent["tool_choice"] == choice
