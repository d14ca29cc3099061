"""Each spelling of an answer that providers use is understood, and none is taken for complete."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.providers.http import FailureFactory
from opensoul.adapters.providers.openai import CHAT_COMPLETIONS
from opensoul.adapters.providers.openai.answer.stream import Answer
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models.calls import (
    ModelEvent,
    ModelFinished,
    ReasoningDelta,
    StopReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from tests.fakes.behaviours import chunk

from .answers import DONE, event, read
from .calls import call, text_of


def read_delta(delta: dict[str, Any]) -> list[ModelEvent]:
    return read(event(chunk(delta)), event(chunk({}, "stop")), DONE)[:-1]


def finish(reason: str, *deltas: dict[str, Any]) -> StopReason:
    last = read(*(event(chunk(delta)) for delta in deltas), event(chunk({}, reason)), DONE)[-1]
    assert isinstance(last, ModelFinished)
    return last.stop


def usage_of(*usages: object) -> Usage | None:
    chunks = [{**chunk({"content": "a"}), "usage": usage} for usage in usages]
    last = read(*map(event, chunks), event(chunk({}, "stop")))[-1]
    assert isinstance(last, ModelFinished)
    return last.usage


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"content": "a"}, [TextDelta("a")]),
        ({"role": "assistant", "content": "a"}, [TextDelta("a")]),
        ({"role": "assistant", "content": ""}, []),
        ({"content": None}, []),
        ({}, []),
        ({"refusal": "I will not."}, [TextDelta("I will not.", refusal=True)]),
        ({"reasoning_content": "hm", "content": None}, [ReasoningDelta("hm")]),
        ({"reasoning": "hm", "content": "a"}, [ReasoningDelta("hm"), TextDelta("a")]),
        (
            {
                "reasoning": "hm",
                "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
            },
            [ReasoningDelta("hm")],
        ),
        (
            {
                "reasoning_details": [
                    {"type": "reasoning.summary", "summary": "hm"},
                    {"type": "reasoning.encrypted", "data": "x"},
                    "odd",
                ]
            },
            [ReasoningDelta("hm")],
        ),
        ({"reasoning": {"odd": 1}, "content": "a"}, [TextDelta("a")]),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            [TextDelta("ab")],
        ),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
            [ReasoningDelta("hm")],
        ),
    ],
)
def test_a_delta_is_understood(delta: dict[str, Any], expected: list[ModelEvent]) -> None:
    assert read_delta(delta) == expected


def tool_piece(name: str | None, arguments: Any = "", **fields: object) -> dict[str, Any]:
    return {**fields, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param(
            [
                [tool_piece("f", "", index=0, id="c1", type="function")],
                [tool_piece(None, '{"a":', index=0)],
                [tool_piece(None, "1}", index=0)],
                [tool_piece("g", "{}", index=1, id="c2")],
            ],
            [
                ToolCallDelta(0, "c1", "f", ""),
                ToolCallDelta(0, None, None, '{"a":'),
                ToolCallDelta(0, None, None, "1}"),
                ToolCallDelta(1, "c2", "g"),
            ],
            id="in pieces, as OpenAI does",
        ),
        pytest.param(
            [[tool_piece("f", "{}", id="c1"), tool_piece("g", "{}", id="c2")]],
            [ToolCallDelta(0, "c1", "f"), ToolCallDelta(1, "c2", "g")],
            id="whole and without an index",
        ),
        pytest.param(
            [[tool_piece("f", "{}", index=0, id="c1")], [tool_piece("g", "{}", index=0, id="c2")]],
            [ToolCallDelta(0, "c1", "f"), ToolCallDelta(1, "c2", "g")],
            id="all with index 0",
        ),
        pytest.param(
            [
                [tool_piece("f", "", index=0, id="c1")],
                [tool_piece("f", "{", index=0, id="c1")],
                [tool_piece(None, "}", index=0, id="made-up")],
                [tool_piece("f", "", index=0, id="c1")],
            ],
            [
                ToolCallDelta(0, "c1", "f", ""),
                ToolCallDelta(0, None, None, "{"),
                ToolCallDelta(0, None, None, "}"),
            ],
            id="id and name repeated",
        ),
        pytest.param(
            [[{"index": 0, "id": "c1"}], [tool_piece("f", None, index=0)]],
            [ToolCallDelta(0, "c1", "f", "")],
            id="the name later",
        ),
        pytest.param(
            [[tool_piece("f", {"a": 1}, index=0, id="c1")]],
            [ToolCallDelta(0, "c1", "f", '{"a":1}')],
            id="arguments decoded",
        ),
    ],
)
def test_tool_calls_are_put_together(
    pieces: list[list[dict[str, Any]]], expected: list[ModelEvent]
) -> None:
    chunks = [event(chunk({"tool_calls": piece})) for piece in pieces]
    events = read(*chunks, event(chunk({}, "tool_calls")), DONE)
    assert events == [*expected, ModelFinished(StopReason.TOOL_CALLS)]


def test_the_older_form_of_a_call_is_a_tool_call() -> None:
    pieces = [{"name": "f", "arguments": "{"}, {"arguments": "}"}]
    chunks = [event(chunk({"function_call": piece})) for piece in pieces]
    assert read(*chunks, event(chunk({}, "function_call"))) == [
        ToolCallDelta(0, None, "f", "{"),
        ToolCallDelta(0, None, None, "}"),
        ModelFinished(StopReason.TOOL_CALLS),
    ]


CALL = {"tool_calls": [tool_piece("f", "{}", index=0, id="c")]}


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", StopReason.STOP),
        ("length", StopReason.LENGTH),
        ("model_length", StopReason.LENGTH),
        ("content_filter", StopReason.CONTENT_FILTER),
        ("eos_token", StopReason.STOP),
        ("tool_calls", StopReason.STOP),
    ],
)
def test_a_finish_reason_is_understood(reason: str, expected: StopReason) -> None:
    assert finish(reason, {"content": "a"}) is expected


@pytest.mark.parametrize("reason", ["tool_calls", "function_call", "stop"])
def test_an_answer_with_a_tool_call_stops_for_it(reason: str) -> None:
    assert finish(reason, CALL) is StopReason.TOOL_CALLS


def test_a_limit_counts_also_behind_a_tool_call() -> None:
    assert finish("length", CALL) is StopReason.LENGTH


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("error", FailureKind.BAD_RESPONSE),
        ("abort", FailureKind.BAD_RESPONSE),
        ("insufficient_system_resource", FailureKind.OVERLOADED),
    ],
)
def test_a_finish_reason_can_be_a_failure(reason: str, kind: FailureKind) -> None:
    with pytest.raises(ModelFailed) as caught:
        finish(reason, {"content": "a"})
    assert caught.value.kind is kind


def test_usage_is_read_with_its_details() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert usage_of(None, usage) == Usage(10, 5, reasoning=2, cached=4)


def test_the_last_usage_counts() -> None:
    first, last = ({"prompt_tokens": 10, "completion_tokens": n} for n in (1, 2))
    assert usage_of(first, last, None) == Usage(10, 2)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0}, {"prompt_tokens": "?"}, [1], 7])
def test_usage_that_says_nothing_is_none(usage: object) -> None:
    assert usage_of(usage) is None


def test_other_choices_are_left_alone() -> None:
    choices = [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]
    only_other = event({"choices": choices[:1]})
    stop = event(chunk({}, "stop"))
    assert text_of(read(event({"choices": choices}), only_other, stop)) == "a"


@pytest.mark.parametrize("content", ["", "   ", "[DONE]", " [DONE] "])
def test_the_end_may_be_spelled_loosely(content: str) -> None:
    stop = event(chunk({"content": "a"}, "stop"))
    assert text_of(read(stop, f"data:{content}\n\n".encode())) == "a"


def test_nothing_behind_the_end_is_read() -> None:
    events = read(event(chunk({"content": "a"}, "stop")) + DONE + b"data: garbage\n\n")
    assert text_of(events) == "a"


def test_the_end_mark_needs_no_blank_line() -> None:
    assert text_of(read(event(chunk({"content": "a"})), b"data: [DONE]")) == "a"


def test_the_end_mark_without_a_finish_reason_completes_what_was_said() -> None:
    assert read(event(chunk({"content": "a"})), DONE)[-1] == ModelFinished(StopReason.STOP)
    assert read(event(chunk(CALL)), DONE)[-1] == ModelFinished(StopReason.TOOL_CALLS)


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b": ping\n\n",
        DONE,
        event(chunk({"role": "assistant", "content": ""})) + DONE,
        event(chunk({"content": "a"})),
        event({**chunk({}), "choices": []}),
        event(chunk({"content": "a"})) + b'data: {"choices":[{"delta":{"cont',
        b"data: no json\n\n",
        b"data: [1]\n\n",
        b"data: null\n\n",
        event({"choices": 7}),
        event({"choices": [7]}),
        event({"choices": [{"delta": "a"}]}),
        event({"choices": [{"delta": {"content": 7}}]}),
        event(chunk({"tool_calls": 7})),
        event(chunk({"tool_calls": [7]})),
        event(chunk({"tool_calls": [{"function": 7}]})),
        b"data: \xff\xfe\n\n",
        b"data: " + b"x" * (8 * 1024 * 1024 + 1),
    ],
)
def test_what_is_no_complete_answer_is_a_bad_response(stream: bytes) -> None:
    with pytest.raises(ModelFailed) as caught:
        read(stream)
    assert caught.value.kind is FailureKind.BAD_RESPONSE
    assert caught.value.__context__ is None


def test_events_before_a_failure_in_one_piece_are_told() -> None:
    answer = Answer(FailureFactory(call().target, CHAT_COMPLETIONS))
    events = answer.feed(event(chunk({"content": "a"})) + b"data: garbage\n\n")
    assert list(events) == [TextDelta("a")]
    with pytest.raises(ModelFailed) as caught:
        answer.check()
    assert caught.value.kind is FailureKind.BAD_RESPONSE


def test_events_before_an_error_that_the_provider_tells_are_told() -> None:
    answer = Answer(FailureFactory(call().target, CHAT_COMPLETIONS))
    piece = event(chunk({"content": "a"})) + event(chunk({"content": "b"}))
    events = answer.feed(piece + event({"error": {"message": "slow down", "code": 429}}))
    assert list(events) == [TextDelta("a"), TextDelta("b")]
    with pytest.raises(ModelFailed, match="slow down") as caught:
        answer.check()
    assert caught.value.kind is FailureKind.RATE_LIMIT


def test_what_the_end_completes_is_told_before_the_cut() -> None:
    answer = Answer(FailureFactory(call().target, CHAT_COMPLETIONS))
    assert list(answer.feed(event(chunk({"content": "a"}))[:-2])) == []
    answer.check()
    assert list(answer.end()) == [TextDelta("a")]
    with pytest.raises(ModelFailed, match="before the answer was complete"):
        answer.check()


def test_a_failure_with_nothing_before_it_is_raised_at_once() -> None:
    answer = Answer(FailureFactory(call().target, CHAT_COMPLETIONS))
    with pytest.raises(ModelFailed):
        answer.feed(b"data: garbage\n\n" + event(chunk({"content": "a"})))


def test_where_nothing_went_wrong_there_is_nothing_to_raise() -> None:
    answer = Answer(FailureFactory(call().target, CHAT_COMPLETIONS))
    answer.check()
    answer.feed(event(chunk({"content": "a"}, "stop")) + DONE)
    answer.check()
    assert answer.done


def test_events_of_one_piece_are_told_together_in_order_and_none_is_merged() -> None:
    answer = Answer(FailureFactory(call().target, CHAT_COMPLETIONS))
    deltas: list[dict[str, Any]] = [
        {"content": "a"},
        {"content": "a"},
        {"reasoning": "hm"},
        {"role": "assistant", "content": "b"},
        {"content": ""},
        {"content": "c"},
    ]
    events = answer.feed(b"".join(event(chunk(delta)) for delta in deltas))
    assert list(events) == [
        TextDelta("a"),
        TextDelta("a"),
        ReasoningDelta("hm"),
        TextDelta("b"),
        TextDelta("c"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"error": {"message": "slow down", "code": 429}},
        {"object": "error", "message": "slow down", "code": 429},
    ],
)
def test_an_error_beside_text_is_not_overlooked(other: dict[str, Any]) -> None:
    with pytest.raises(ModelFailed, match="slow down") as caught:
        read(event({**chunk({"content": "a"}), **other}), event(chunk({}, "stop")))
    assert caught.value.kind is FailureKind.RATE_LIMIT


def test_what_a_chunk_tells_beside_its_text_is_not_overlooked() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    assert read(event({**chunk({"content": "a"}, "length"), "usage": usage})) == [
        TextDelta("a"),
        ModelFinished(StopReason.LENGTH, Usage(10, 2)),
    ]


KEYS = (
    *("choices", "delta", "content", "tool_calls", "function", "usage", "index", "finish_reason"),
    *("error", "message", "code", "reasoning_details", "thinking"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON, JSON, JSON)
def test_no_json_makes_it_fail_otherwise(document: object, choice: object, delta: object) -> None:
    for content in (document, {"choices": [choice]}, {"choices": [{"delta": delta}]}):
        try:
            read(event(content), DONE)
        except ModelFailed as error:
            assert error.message  # noqa: PT017 - the call may succeed as well
