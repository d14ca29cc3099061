"""The native runner with tools: a call of the model, the calls of its tools, and so on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import orjson
import pytest

from opensoul.adapters.persistence.memory import MemoryApprovals
from opensoul.adapters.providers.http import FailureFactory
from opensoul.adapters.providers.openai import CHAT_COMPLETIONS
from opensoul.adapters.providers.openai.request import Encoder, body
from opensoul.adapters.tools import EmptyToolbox
from opensoul.domain.errors import FailureKind, ModelFailed, RunFailed
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
from opensoul.domain.runs.journal import result_of
from opensoul.domain.tools import ToolOutput, ToolResult, ToolSpec
from tests.fakes.domain import FakeClock, FakeModelClient, agent, assistant, target, user
from tests.fakes.domain import run as a_run

ONE, TWO = target("acme/one"), target("acme/two")
WEATHER = ToolSpec("weather", "The weather of a city.", {"type": "object"})
CALL = ToolCall("c1", "weather", '{"city":"Bern"}')
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


@pytest.fixture
def client() -> FakeModelClient:
    return FakeModelClient()


def loop(client: FakeModelClient, toolbox: Toolbox, max_steps: int = 5) -> TurnLoop:
    router = ModelRouter(clients={"fake": client}, cooldowns=Cooldowns(FakeClock()))
    return TurnLoop(router, toolbox, MemoryApprovals(), clock=FakeClock(), max_steps=max_steps)


async def events_of(runner: TurnLoop) -> list[RunnerEvent]:
    context = RunContext(a_run(messages=(user("Nice?"),)), agent("main", ONE, TWO))
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
    result = result_of(CALL, "sunny")
    assert events == [
        TextDelta("I look."),
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


async def test_every_call_has_a_key_of_its_own(client: FakeModelClient) -> None:
    """Providers may number the calls of each answer anew."""
    other = ToolCall("c2", "weather", "{}")
    client.script("acme/one", *call_of(0, CALL), *call_of(1, other), CALLED)
    client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/one", TextDelta("Yes."), DONE)
    toolbox = Weather()

    await events_of(loop(client, toolbox))

    calls, keys = zip(*toolbox.seen, strict=True)
    assert calls == (CALL, other, CALL)
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
    assert client.requests[1].messages[-1] == result_of(CALL, text)


async def test_followers_get_the_beginning_of_a_long_result(client: FakeModelClient) -> None:
    long = "x" * 100_000
    client.script("acme/one", *call_of(0, CALL), CALLED)
    client.script("acme/one", TextDelta("Yes."), DONE)

    events = await events_of(loop(client, Weather([ToolResult(long)])))

    (shown,) = [event.text for event in events if isinstance(event, ToolFinished)]
    assert len(shown) < 10_000
    assert client.requests[1].messages[-1].text == long


async def test_a_run_has_so_many_steps_and_no_more(client: FakeModelClient) -> None:
    client.script("acme/one", *call_of(0, CALL), CALLED)

    with pytest.raises(RunFailed, match="2 steps"):
        await events_of(loop(client, Weather(), max_steps=2))

    assert len(client.requests) == 2


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


def test_the_choice_of_a_tool_reaches_the_provider() -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    request = ModelRequest(ONE, (user("Nice?"),), {"tool_choice": choice}, (WEATHER,))

    sent = orjson.loads(body(request, Encoder(), FailureFactory(ONE, CHAT_COMPLETIONS)))

    assert sent["tool_choice"] == choice
