"""The scripted model answers by rule, and says that it is one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from opensoul.adapters.providers.scripted import LABEL, Scripted
from opensoul.domain.errors import FailureKind
from opensoul.domain.messages import Message, Role, Text, ToolCall, text_message
from opensoul.domain.models.calls import (
    ModelEvent,
    ModelFinished,
    StopReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from opensoul.domain.tools import ToolSpec

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


TOOLS = (ToolSpec("read", "Reads a file."), ToolSpec("write", "Writes a file."))
SCRIPT = """
I look.
/call read {"path": "a.txt"}
/call read {"path": "b.txt"}
/then
/call write {"path": "c.txt"
Now I am
done.
"""


async def conversation(text: str, **params: object) -> list[list[ModelEvent]]:
    """The answers of the model until one has no calls. Each call has the result `well N`."""
    messages = [text_message(Role.USER, "/call earlier"), text_message(Role.USER, text)]
    answers: list[list[ModelEvent]] = []
    while not answers or any(isinstance(event, ToolCallDelta) for event in answers[-1]):
        request = call("", *messages, target_params=params, api="scripted")
        answers.append(await collect(Scripted(), replace(request, tools=TOOLS)))
        calls = [event for event in answers[-1] if isinstance(event, ToolCallDelta)]
        parts = [ToolCall(one.id or "", one.name or "", one.arguments) for one in calls]
        messages.append(Message(Role.ASSISTANT, (Text(text_of(answers[-1])), *parts)))
        messages += [
            Message(Role.TOOL, (Text(f"well {part.id}"),), name=part.name, tool_call_id=part.id)
            for part in parts
        ]
    return answers


@pytest.mark.parametrize("in_message", [True, False], ids=["message", "parameter"])
async def test_a_script_calls_tools_step_by_step(in_message: bool) -> None:
    message, params = (SCRIPT, {}) if in_message else ("Well?", {"script": SCRIPT})

    first, second, last = await conversation(message, **params)

    assert [event for event in first if isinstance(event, ToolCallDelta)] == [
        ToolCallDelta(0, "call_1", "read", '{"path": "a.txt"}'),
        ToolCallDelta(1, "call_2", "read", '{"path": "b.txt"}'),
    ]
    assert text_of(first) == "[scripted] I look."
    assert first[-1] == ModelFinished(StopReason.TOOL_CALLS, Usage(first_words(message), 9))
    assert second[0] == ToolCallDelta(0, "call_3", "write", '{"path": "c.txt"')
    assert text_of(last) == "[scripted] Now I am\ndone."


def first_words(message: str) -> int:
    return len(["/call", "earlier", *message.split()])


async def test_a_script_without_an_answer_ends_with_the_last_results() -> None:
    *_, last = await conversation("/call read {}\n/then\n/call read\n/call write")

    assert text_of(last) == "[scripted] read returned: well call_2\nwrite returned: well call_3"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/call read", ("read", "")),
        ("  /call  read   [1, 2] ", ("read", "[1, 2]")),
        ("/call", ("", "")),
    ],
)
async def test_a_call_is_passed_on_as_it_is_written(line: str, expected: tuple[str, str]) -> None:
    first, *_ = await conversation(line)

    (delta,) = (event for event in first if isinstance(event, ToolCallDelta))
    assert (delta.name, delta.arguments) == expected


@pytest.mark.parametrize("text", ["/callread {}", "Please /call read {}", "call read {}"])
async def test_another_line_is_no_call(text: str) -> None:
    (only,) = await conversation(text)

    assert text_of(only) == f"[scripted] You said: {text}"


async def test_without_tools_a_script_is_repeated_as_any_text() -> None:
    assert text_of(await answer(text_message(Role.USER, "/call read {}"))) == (
        "[scripted] You said: /call read {}"
    )


async def test_a_script_has_to_be_a_text() -> None:
    request = call("", target_params={"script": ["/call read"]})
    _, error = await failure(Scripted(), request)
    assert "'script' must be a text" in error.message


async def test_a_model_that_has_no_token_left_calls_nothing() -> None:
    script = text_message(Role.USER, "One two three.\n/call read {}")
    request = call("", script, params={"max_tokens": 2}, api="scripted")

    events = await collect(Scripted(), replace(request, tools=TOOLS))

    assert events[-1] == ModelFinished(StopReason.LENGTH, Usage(6, 2))
