"""How an agent's models are asked, one after the other, until one answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from opensoul.adapters.persistence.memory import MemoryApprovals
from opensoul.adapters.tools import EmptyToolbox
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.execution.loop import TurnLoop
from opensoul.domain.execution.router import ModelRouter
from opensoul.domain.messages import Message, Reasoning, Role, Text, text_message
from opensoul.domain.models.calls import (
    ModelFinished,
    ModelTarget,
    ReasoningDelta,
    ReasoningSigned,
    StopReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from opensoul.domain.models.cooldowns import Cooldowns
from opensoul.domain.ports import AgentRunner, RunContext, ToolContext, Transcript
from opensoul.domain.runs.events import RUNNER_EVENTS, Answered, RunnerEvent
from opensoul.domain.runs.spec import CONTENT
from opensoul.domain.scopes import Scope
from opensoul.domain.sessions.history import estimate_all
from opensoul.domain.tools import ToolSpec
from tests.fakes.domain import FakeClock, FakeModelClient, Gate, agent, assistant, system, user
from tests.fakes.domain import run as a_run
from tests.fakes.domain import target as model

ONE, TWO, THREE = model("acme/one"), model("acme/two"), model("other/three")
DONE = ModelFinished(StopReason.STOP, Usage(11, 3))
NOTHING = Transcript()


class Seen(EmptyToolbox):
    """Remembers for whom tools were listed."""

    def __init__(self) -> None:
        self.contexts: list[ToolContext] = []

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        self.contexts.append(context)
        return ()


@pytest.fixture
def client() -> FakeModelClient:
    return FakeModelClient()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def loop(client: FakeModelClient, clock: FakeClock) -> TurnLoop:
    return TurnLoop(
        ModelRouter(clients={"fake": client}, cooldowns=Cooldowns(clock)),
        EmptyToolbox(),
        MemoryApprovals(),
        clock=clock,
    )


def failure(kind: FailureKind = FailureKind.OVERLOADED, message: str = "no") -> ModelFailed:
    return ModelFailed(kind, message)


def of(*models: ModelTarget, instructions: str = "", **changes: Any) -> RunContext:
    return RunContext(a_run(**changes), agent("main", *models, instructions=instructions))


async def told(
    runner: AgentRunner, context: RunContext, transcript: Transcript = NOTHING
) -> list[RunnerEvent]:
    """What the runner tells; like the executor, it closes the stream once it is answered."""
    events: list[RunnerEvent] = []
    async with aclosing(runner.run(replace(context, transcript=transcript))) as stream:
        async for told in stream:
            assert told  # One event at least.
            events += [told] if isinstance(told, RUNNER_EVENTS) else told
            if isinstance(events[-1], Answered):
                break
    return events


def answer(events: list[RunnerEvent]) -> Answered:
    assert isinstance(events[-1], Answered)
    return events[-1]


async def test_what_the_model_says_is_told_piece_by_piece_then_whole(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", TextDelta("Hel"), TextDelta("lo"), DONE)

    assert await told(loop, of(ONE)) == [
        TextDelta("Hel"),
        TextDelta("lo"),
        Answered((assistant("Hello"),), StopReason.STOP, Usage(11, 3), "acme/one"),
    ]


async def test_the_answer_holds_what_was_thought(loop: TurnLoop, client: FakeModelClient) -> None:
    client.script(
        "acme/one", ReasoningDelta("h"), ReasoningDelta("m"), TextDelta("yes"), TextDelta("!"), DONE
    )

    events = await told(loop, of(ONE))

    assert events[:2] == [ReasoningDelta("h"), ReasoningDelta("m")]
    expected = Message(Role.ASSISTANT, (Reasoning("hm"), Text("yes!")))
    assert answer(events).messages == (expected,)


async def test_signed_reasoning_keeps_its_signatures(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script(
        "acme/one",
        *(ReasoningDelta("a"), ReasoningDelta("b"), ReasoningSigned("s1")),
        *(ReasoningSigned("s2", redacted=True), ReasoningSigned("s3"), ReasoningDelta("c")),
        *(TextDelta("yes"), DONE),
    )

    events = await told(loop, of(ONE))

    assert events[:3] == [ReasoningDelta("a"), ReasoningDelta("b"), ReasoningDelta("c")]
    parts = (
        Reasoning("ab", "s1", "acme/one"),
        Reasoning("", "s2", "acme/one", redacted=True),
        Reasoning("", "s3", "acme/one"),
        Reasoning("c"),
        Text("yes"),
    )
    assert answer(events).messages == (Message(Role.ASSISTANT, parts),)


async def test_large_answers_are_put_together_beside_the_event_loop_one_at_a_time(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    client.script("acme/one", TextDelta("a" * 200_000), ReasoningDelta("b" * 200_000), DONE)
    seen: list[int] = []

    async def ask() -> None:
        events = await told(loop, of(ONE))
        seen.append(turns)
        assert answer(events).messages[0].text == "a" * 200_000

    other = asyncio.create_task(others())
    await asyncio.gather(*(ask() for _ in range(20)))
    other.cancel()

    # Put together in the loop, all of them would end in the same turn of it.
    assert len(set(seen)) == 20


@pytest.mark.parametrize("stop", [StopReason.LENGTH, StopReason.CONTENT_FILTER])
async def test_why_the_model_stopped_is_passed_on(
    loop: TurnLoop, client: FakeModelClient, stop: StopReason
) -> None:
    client.script("acme/one", TextDelta("Hel"), ModelFinished(stop, Usage(1, 1)))

    assert answer(await told(loop, of(ONE))).stop is stop


async def test_usage_is_estimated_and_marked_when_the_provider_tells_none(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", TextDelta("abc"), ModelFinished(StopReason.STOP))

    usage = answer(await told(loop, of(ONE, messages=(user("abc"),)))).usage

    assert usage == Usage(5, 5, estimated=True)


async def test_an_empty_answer_has_no_usage_of_zero(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", ModelFinished(StopReason.STOP))

    event = answer(await told(loop, of(ONE)))

    assert event.messages == (assistant(""),)
    assert event.usage.output > 0


# What is asked


async def test_the_agents_instructions_come_first_in_a_single_system_message(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", DONE)
    run = replace(
        of(ONE, instructions="You are kind."),
        spec=a_run(
            instructions=(system("Be brief."), system("  "), system("Use English.")),
            params={"temperature": 0.5},
        ),
    )

    await told(loop, run, Transcript((user("earlier"), assistant("yes"))))

    (request,) = client.requests
    assert request.messages == (
        system("You are kind.\n\nBe brief.\n\nUse English."),
        user("earlier"),
        assistant("yes"),
        user("hello"),
    )
    assert request.params == {"temperature": 0.5}


async def test_without_instructions_there_is_no_system_message(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", DONE)

    await told(loop, of(ONE))

    assert client.requests[0].messages == (user("hello"),)


# Fallbacks


async def test_a_fallback_takes_over_before_the_first_token(
    loop: TurnLoop, client: FakeModelClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.script("acme/one", failure())
    client.script("acme/two", TextDelta("hi"), DONE)

    with caplog.at_level(logging.WARNING):
        events = await told(loop, of(ONE, TWO))

    assert client.called == ["acme/one", "acme/two"]
    assert answer(events).model == "acme/two"
    assert [vars(record)["model"] for record in caplog.records] == ["acme/one"]


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        (FailureKind.OVERLOADED, "said: try later"),
        (FailureKind.UNREACHABLE, "said: try later"),
        (FailureKind.BAD_REQUEST, None),
        (FailureKind.CONTEXT_TOO_LONG, None),
        (FailureKind.BAD_RESPONSE, None),
    ],
)
async def test_the_log_has_our_own_words_and_not_what_may_quote_the_conversation(
    loop: TurnLoop,
    client: FakeModelClient,
    caplog: pytest.LogCaptureFixture,
    kind: FailureKind,
    detail: str | None,
) -> None:
    failed = ModelFailed(kind, "no: a quote", reason="no", detail="said: try later")
    client.script("acme/one", failed)

    with caplog.at_level(logging.WARNING), pytest.raises(ModelFailed):
        await told(loop, of(ONE))
    (logged,) = [vars(record) for record in caplog.records]
    assert (logged["reason"], logged.get("detail")) == ("no", detail)
    assert "a quote" not in repr(logged)
    assert detail or "try later" not in repr(logged)


async def test_a_message_without_a_quote_is_logged_as_it_is(
    loop: TurnLoop, client: FakeModelClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.script("acme/one", failure(FailureKind.BAD_RESPONSE, "it ended early"))

    with caplog.at_level(logging.WARNING), pytest.raises(ModelFailed):
        await told(loop, of(ONE))
    assert [vars(record)["reason"] for record in caplog.records] == ["it ended early"]


async def test_what_was_quoted_is_in_the_content_log(
    loop: TurnLoop,
    client: FakeModelClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A Gateway that another test served may have switched the logger off.
    monkeypatch.setattr(logging.getLogger(CONTENT), "disabled", False)
    client.script("acme/one", ModelFailed(FailureKind.BAD_REQUEST, "no: a quote", reason="no"))

    with caplog.at_level(logging.INFO, CONTENT), pytest.raises(ModelFailed):
        await told(loop, of(ONE))
    assert "no: a quote" in [vars(record).get("said") for record in caplog.records]


async def test_an_empty_piece_is_no_token_and_is_not_told(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", TextDelta(""), ReasoningDelta(""), failure())
    client.script("acme/two", TextDelta("hi"), DONE)

    events = await told(loop, of(ONE, TWO))

    assert events[0] == TextDelta("hi")
    assert answer(events).model == "acme/two"


@pytest.mark.parametrize("piece", [TextDelta("Hel"), ReasoningDelta("h")])
async def test_after_the_first_token_a_failure_is_the_runs(
    loop: TurnLoop, client: FakeModelClient, piece: TextDelta | ReasoningDelta
) -> None:
    client.script("acme/one", piece, failure(message="cut"))
    client.script("acme/two", DONE)

    with pytest.raises(ModelFailed, match=r"^cut$"):
        await told(loop, of(ONE, TWO))
    assert client.called == ["acme/one"]


async def test_a_bad_request_is_not_tried_elsewhere(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", failure(FailureKind.BAD_REQUEST, "temperature?"))

    with pytest.raises(ModelFailed, match="temperature") as failed:
        await told(loop, of(ONE, TWO))
    assert failed.value.kind is FailureKind.BAD_REQUEST
    assert client.called == ["acme/one"]


async def test_when_all_fail_all_are_named_and_the_primarys_kind_is_told(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script(
        "acme/one",
        ModelFailed(FailureKind.RATE_LIMIT, "slow down", status=429, retry_after=7, param="p"),
    )
    client.script("acme/two", failure(FailureKind.AUTH, "bad key"))
    client.script("other/three", failure(FailureKind.TIMEOUT, "silence"))

    with pytest.raises(ModelFailed) as failed:
        await told(loop, of(ONE, TWO, THREE))

    error = failed.value
    assert error.message == (
        "All models failed (3): acme/one: slow down (rate_limit) | "
        "acme/two: bad key (auth) | other/three: silence (timeout)"
    )
    assert (error.kind, error.status, error.retry_after, error.param) == (
        FailureKind.RATE_LIMIT,
        429,
        7,
        "p",
    )


async def test_the_primarys_kind_is_told_even_when_it_was_tried_last(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", failure(FailureKind.BILLING, "no credit"))
    client.script("acme/two", DONE)
    await told(loop, of(ONE, TWO))
    client.script("acme/two", failure(FailureKind.TIMEOUT, "silence"))

    with pytest.raises(ModelFailed, match=r"acme/two.*acme/one") as failed:
        await told(loop, of(ONE, TWO))
    assert failed.value.kind is FailureKind.BILLING


async def test_the_only_models_failure_is_told_as_it_is(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    said = failure(FailureKind.UNREACHABLE, "nobody there")
    client.script("acme/one", said)

    with pytest.raises(ModelFailed) as failed:
        await told(loop, of(ONE))
    assert failed.value is said


async def test_an_agent_without_a_model_says_so(loop: TurnLoop) -> None:
    with pytest.raises(ModelFailed, match="'main' has no model"):
        await told(loop, of())
    assert loop.history_budget(of()) == 0


async def test_a_model_that_failed_lately_is_tried_behind_its_fallbacks(
    loop: TurnLoop, client: FakeModelClient, clock: FakeClock
) -> None:
    client.script("acme/one", failure())
    client.script("acme/two", DONE)
    for _ in range(2):
        await told(loop, of(ONE, TWO))
    assert client.called == ["acme/one", "acme/two", "acme/two"]

    clock.advance(60)
    await told(loop, of(ONE, TWO))
    assert client.called[3:] == ["acme/one", "acme/two"]


async def test_an_answer_forgives_the_failures_before_it(
    loop: TurnLoop, client: FakeModelClient, clock: FakeClock
) -> None:
    client.script("acme/one", failure())
    client.script("acme/one", TextDelta("back"), DONE)
    client.script("acme/one", failure())
    client.script("acme/two", DONE)
    await told(loop, of(ONE, TWO))
    clock.advance(60)
    await told(loop, of(ONE, TWO))
    await told(loop, of(ONE, TWO))  # Fails again: the first failure in a row.

    clock.advance(60)
    await told(loop, of(ONE, TWO))

    assert client.called[-2:] == ["acme/one", "acme/two"]


async def test_a_tool_call_nobody_offered_is_refused(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", ToolCallDelta(0, "1", "rm", "{}"), DONE)

    with pytest.raises(ModelFailed, match="called a tool, but none was offered") as failed:
        await told(loop, of(ONE))
    assert failed.value.kind is FailureKind.BAD_RESPONSE


async def test_what_was_said_before_a_tool_call_that_came_with_it_is_told_first(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    together = (TextDelta("Hel"), TextDelta("lo"), ToolCallDelta(0, "1", "rm", "{}"), DONE)
    client.script("acme/one", together)
    client.script("acme/two", DONE)
    stream = loop.run(of(ONE, TWO))

    assert list(await anext(stream)) == [TextDelta("Hel"), TextDelta("lo")]
    with pytest.raises(ModelFailed, match="called a tool, but none was offered") as failed:
        await anext(stream)
    assert failed.value.kind is FailureKind.BAD_RESPONSE
    assert (client.called, client.streaming) == (["acme/one"], 0)


async def test_a_tool_call_before_the_first_token_leaves_it_to_the_fallback(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", (TextDelta(""), ToolCallDelta(0, "1", "rm", "{}"), TextDelta("no")))
    client.script("acme/two", TextDelta("hi"), DONE)

    assert (await told(loop, of(ONE, TWO)))[0] == TextDelta("hi")


async def test_what_came_together_is_told_together_in_order_and_none_is_merged(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    said = (ReasoningDelta("hm"), TextDelta("a"), TextDelta("a"), TextDelta(""), TextDelta("b"))
    client.script("acme/one", (TextDelta(""),), (*said, DONE))

    assert [list(events) async for events in loop.run(of(ONE))] == [
        [
            ReasoningDelta("hm"),
            TextDelta("a"),
            TextDelta("a"),
            TextDelta("b"),
            Answered(
                (Message(Role.ASSISTANT, (Reasoning("hm"), Text("aab"))),),
                StopReason.STOP,
                Usage(11, 3),
                "acme/one",
            ),
        ]
    ]


async def test_a_stream_that_just_ends_has_no_answer(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", TextDelta("Hel"))

    assert await told(loop, of(ONE)) == [TextDelta("Hel")]


# History

LONG = tuple(
    text_message(role, letter * 300) for letter in "abcd" for role in (Role.USER, Role.ASSISTANT)
)
"""Four exchanges, each message of 104 tokens."""


def windowed(ref: str, window: int) -> ModelTarget:
    return model(ref, context_window=window, max_tokens=100)


async def test_history_is_trimmed_to_the_models_window(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", DONE)

    await told(loop, of(windowed("acme/one", 600)), Transcript(LONG))

    assert client.requests[0].messages == (*LONG[-4:], user("hello"))


async def test_the_requests_own_messages_are_never_cut(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", DONE)
    run = of(windowed("acme/one", 50), messages=LONG)

    await told(loop, run, Transcript(LONG))

    assert client.requests[0].messages == LONG


async def test_a_history_that_is_too_long_is_halved_until_the_model_takes_it(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    too_long = failure(FailureKind.CONTEXT_TOO_LONG)
    client.script("acme/one", too_long)
    client.script("acme/one", too_long)
    client.script("acme/one", DONE)

    events = await told(loop, of(ONE), Transcript(LONG))

    assert [len(request.messages) - 1 for request in client.requests] == [8, 4, 2]
    assert answer(events).model == "acme/one"


async def test_a_question_too_long_by_itself_goes_to_the_fallbacks(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", failure(FailureKind.CONTEXT_TOO_LONG))
    client.script("acme/two", DONE)

    await told(loop, of(ONE, TWO), Transcript(LONG[:4]))

    sent = [(r.target.ref, len(r.messages) - 1) for r in client.requests]
    assert sent == [("acme/one", 4), ("acme/one", 2), ("acme/one", 0), ("acme/two", 4)]


async def test_after_the_first_token_the_history_is_not_shortened_any_more(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", TextDelta("Hel"), failure(FailureKind.CONTEXT_TOO_LONG, "cut"))
    client.script("acme/one", TextDelta("Hello"), DONE)

    with pytest.raises(ModelFailed, match=r"^cut$"):
        await told(loop, of(ONE), Transcript(LONG))
    assert len(client.requests) == 1


async def test_another_failure_does_not_shorten_the_history(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", failure())

    with pytest.raises(ModelFailed):
        await told(loop, of(ONE), Transcript(LONG))
    assert len(client.requests) == 1


async def test_a_fallback_with_a_larger_window_gets_more_history(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", failure(FailureKind.CONTEXT_TOO_LONG))
    client.script("acme/two", DONE)
    run = of(windowed("acme/one", 400), windowed("acme/two", 100_000))
    assert loop.history_budget(run) >= estimate_all(LONG)

    await told(loop, run, Transcript(LONG))

    assert client.requests[0].messages == (*LONG[-2:], user("hello"))
    assert client.requests[-1].messages == (*LONG, user("hello"))


@pytest.mark.parametrize(
    ("params", "reserved"),
    [
        ({}, 100),
        ({"max_tokens": 300}, 300),
        ({"max_completion_tokens": 200, "max_tokens": 300}, 200),
        ({"max_tokens": None}, 100),
        ({"max_tokens": 10_000}, 1_000),
    ],
)
def test_the_window_is_shared_with_question_and_answer(
    loop: TurnLoop, params: dict[str, object], reserved: int
) -> None:
    spec = a_run(params=params, instructions=(system("abc"),))
    run = RunContext(spec, agent("main", windowed("acme/one", 1_000)))

    assert loop.history_budget(run) == max(0, 1_000 - reserved - 5 - 6)


def test_a_small_window_is_not_all_kept_for_the_answer(loop: TurnLoop) -> None:
    small = model("acme/one", context_window=1_000, max_tokens=8_192)

    assert loop.history_budget(of(small)) == 1_000 - 500 - 6


# Stopping


async def test_closing_the_stream_closes_the_clients(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", TextDelta("Hel"), Gate())
    stream: AsyncGenerator[Sequence[RunnerEvent]] = loop.run(of(ONE))
    assert list(await anext(stream)) == [TextDelta("Hel")]
    assert client.streaming == 1

    await stream.aclose()
    assert client.streaming == 0


async def test_cancelling_the_reader_closes_the_clients_stream(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    gate = Gate()
    client.script("acme/one", gate)
    reading = asyncio.create_task(told(loop, of(ONE, TWO)))
    await gate.reached.wait()

    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert client.streaming == 0
    assert client.called == ["acme/one"]


async def test_after_the_answer_no_stream_is_left_open(
    loop: TurnLoop, client: FakeModelClient
) -> None:
    client.script("acme/one", DONE, Gate())

    await told(loop, of(ONE))
    assert client.streaming == 0


@pytest.mark.parametrize("scopes", [None, frozenset({Scope.READ})])
async def test_tools_are_listed_for_the_scopes_that_the_run_was_accepted_with(
    client: FakeModelClient, clock: FakeClock, scopes: frozenset[Scope] | None
) -> None:
    router, seen = ModelRouter(clients={"fake": client}, cooldowns=Cooldowns(clock)), Seen()
    loop = TurnLoop(router, seen, MemoryApprovals(), clock=clock)
    client.script("acme/one", TextDelta("hi"), DONE)

    await told(loop, of(ONE, scopes=scopes))

    (context,) = seen.contexts
    assert context.scopes == scopes
