"""The scripted model answers by rule, and says that it is one."""

from __future__ import annotations

import asyncio

import pytest

from opensoul.adapters.providers.scripted import LABEL, Scripted
from opensoul.domain.errors import FailureKind
from opensoul.domain.messages import Message, Role, text_message
from opensoul.domain.models.calls import ModelEvent, ModelFinished, StopReason, TextDelta, Usage

from .calls import call, collect, failure, text_of


async def answer(*messages: Message, **params: object) -> list[ModelEvent]:
    return await collect(Scripted(), call("", *messages, params=params, api="scripted"))


async def scripted(**script: object) -> list[ModelEvent]:
    return await collect(Scripted(), call("", target_params=script, api="scripted"))


async def test_it_repeats_the_last_thing_a_user_said_word_by_word() -> None:
    messages = (
        text_message(Role.SYSTEM, "Be brief."),
        text_message(Role.USER, "one"),
        text_message(Role.ASSISTANT, "two"),
        text_message(Role.USER, "three  four"),
        text_message(Role.TOOL, "five"),
    )
    assert await answer(*messages) == [
        TextDelta("[scripted] "),
        TextDelta("You "),
        TextDelta("said: "),
        TextDelta("three  "),
        TextDelta("four"),
        ModelFinished(StopReason.STOP, Usage(input=7, output=5)),
    ]


async def test_it_answers_also_when_no_user_spoke() -> None:
    assert text_of(await answer(text_message(Role.SYSTEM, "x"))) == "[scripted] You said: "


async def test_it_says_what_its_script_says_under_its_label() -> None:
    assert text_of(await scripted(reply="Good day")) == LABEL + "Good day"


async def test_a_script_may_name_the_pieces() -> None:
    events = await scripted(chunks=["Good ", "", "day, Ann"], delay=0.001)
    assert events[:-1] == [TextDelta(LABEL), TextDelta("Good "), TextDelta("day, Ann")]


@pytest.mark.parametrize("kind", list(FailureKind))
async def test_a_script_may_fail(kind: FailureKind) -> None:
    request = call("", target_params={"fail": str(kind)})
    events, error = await failure(Scripted(), request)
    assert (events, error.kind) == ([], kind)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fail", "badly"),
        ("fail", 7),
        ("delay", -1),
        ("delay", "1"),
        ("delay", True),
        ("delay", float("nan")),
        ("chunks", "abc"),
        ("chunks", [1]),
        ("reply", 7),
    ],
)
async def test_a_script_that_makes_no_sense_is_named(name: str, value: object) -> None:
    _, error = await failure(Scripted(), call("", target_params={name: value}))
    assert error.kind is FailureKind.BAD_RESPONSE
    assert f"parameter '{name}' must be " in error.message


async def test_a_request_cannot_change_the_script() -> None:
    assert text_of(await answer(reply="No", chunks=["No"], fail="timeout", delay=99)) == (
        "[scripted] You said: Hi"
    )


@pytest.mark.parametrize(
    ("params", "text", "stop"),
    [
        ({"max_tokens": 1}, "", StopReason.LENGTH),
        ({"max_tokens": 3}, "You said: ", StopReason.LENGTH),
        ({"max_completion_tokens": 2, "max_tokens": 9}, "You ", StopReason.LENGTH),
        ({"max_tokens": 4}, "You said: Hi", StopReason.STOP),
        ({"stop": "said"}, "You ", StopReason.STOP),
        ({"stop": ["Hi", "u s"]}, "Yo", StopReason.STOP),
        ({"stop": ["nothing", ""]}, "You said: Hi", StopReason.STOP),
        ({"stop": "Hi", "max_tokens": 2}, "You ", StopReason.LENGTH),
        ({"stop": "scripted"}, "You said: Hi", StopReason.STOP),
        ({"stop": "You"}, "", StopReason.STOP),
        ({"temperature": 1.0}, "You said: Hi", StopReason.STOP),
    ],
)
async def test_limit_and_stop_texts_are_honoured(
    params: dict[str, object], text: str, stop: StopReason
) -> None:
    events = await answer(**params)
    last = events[-1]
    assert text_of(events) == LABEL + text
    assert isinstance(last, ModelFinished)
    assert last.stop is stop
    assert last.usage == Usage(1, len((LABEL + text).split()))


async def test_it_can_be_cancelled_between_pieces() -> None:
    stream = Scripted().stream(call("", target_params={"delay": 3600}))
    assert list(await anext(stream)) == [TextDelta(LABEL)]
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await stream.aclose()


async def test_closing_it_is_safe_at_any_time() -> None:
    model = Scripted()
    await model.close()
    await model.close()
