"""Text is found wherever providers put it, and what is in no known form is no empty answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models.calls import (
    ModelEvent,
    ModelFinished,
    ReasoningDelta,
    StopReason,
    TextDelta,
    ToolCallDelta,
)
from tests.fakes.behaviours import chunk

from .answers import DONE, event, finished, read, read_whole, refusal
from .calls import text_of, thought_of

STOP = event(chunk({}, "stop"))


def choice(index: object, text: str, name: str = "delta") -> dict[str, Any]:
    return {"index": index, name: {"content": text}}


def choices(*several: dict[str, Any]) -> bytes:
    return event({"choices": several})


def test_one_choice_in_a_chunk_counts_whatever_its_index() -> None:
    pieces = [choices(choice(number, text)) for number, text in enumerate(["a", "b", "c"])]
    last = event({"choices": [{"index": 3, "delta": {}, "finish_reason": "length"}]})
    events = read(*pieces, last, DONE)
    assert events == [*map(TextDelta, "abc"), ModelFinished(StopReason.LENGTH)]
    assert read(b"".join([*pieces, last, DONE])) == events


@pytest.mark.parametrize(
    ("first", "text"),
    [
        ([choice(0, "a"), choice(1, "b")], "a"),
        ([choice(1, "b"), choice(0, "a")], "a"),
        ([choice(None, "a"), choice(1, "b")], "a"),
        ([choice(1, "a"), choice(2, "b")], "a"),
        ([choice(0, "a"), choice(0, "b")], "ab"),
    ],
)
def test_of_several_choices_in_a_chunk_the_first_one_counts(
    first: list[dict[str, Any]], text: str
) -> None:
    assert text_of(read(choices(*first), STOP)) == text


def test_where_several_choices_were_seen_another_one_alone_is_not_joined() -> None:
    both = choices(choice(0, "a"), choice(1, "b"))
    assert text_of(read(both, choices(choice(1, "c")), choices(choice(0, "d")), STOP)) == "ad"


@pytest.mark.parametrize("first", [0, 1, 3])
def test_where_indexes_count_the_pieces_several_in_a_chunk_are_joined(first: int) -> None:
    alone = [choices(choice(first + number, text)) for number, text in enumerate("ab")]
    several = choices(choice(first + 2, "c"), choice(first + 3, "d"))
    assert text_of(read(*alone, several, choices(choice(first + 4, "e")), STOP)) == "abcde"


def test_an_empty_place_among_the_choices_is_no_choice() -> None:
    events = read(event({"choices": [None]}), event({"choices": [None, choice(0, "a")]}), STOP)
    assert text_of(events) == "a"


CONTENTS: list[tuple[object, str]] = [
    ("a", "a"),
    (["a", "b"], "ab"),
    (["a", {"type": "text", "text": "b"}, {"text": "c"}], "abc"),
    ({"type": "text", "text": "a"}, "a"),
    ([{"type": "output_text", "text": "a"}], "a"),
    ([{"type": "text", "text": {"value": "a", "annotations": []}}], "a"),
    ([{"type": "refusal", "refusal": "no"}], "no"),
    ([{"type": "image_url", "image_url": {"url": "x"}}, "a", None], "a"),
]


@pytest.mark.parametrize("name", ["delta", "message"])
@pytest.mark.parametrize(("content", "text"), CONTENTS)
def test_content_is_read_in_each_form(name: str, content: object, text: str) -> None:
    document = {"choices": [{name: {"role": "assistant", "content": content}}]}
    assert text_of(read(event(document), STOP)) == text
    assert text_of(read_whole(orjson.dumps(document))) == text


@pytest.mark.parametrize(
    ("field", "value"), [("message", {"content": "a"}), ("delta", {"content": "a"}), ("text", "a")]
)
@pytest.mark.parametrize("empty", [{}, {"delta": {}}, {"delta": None, "message": None, "text": ""}])
def test_content_is_found_in_each_field_of_a_choice(
    field: str, value: object, empty: dict[str, Any]
) -> None:
    one = {**empty, field: value, "index": 0}
    last = {**one, "finish_reason": "stop"}
    assert text_of(read(choices(one), choices(one), choices(last), DONE)) == "aaa"
    assert text_of(read_whole(orjson.dumps({"choices": [last]}))) == "a"


def test_what_other_fields_repeat_is_not_read_twice() -> None:
    both = {"delta": {"content": "b"}, "message": {"content": "ab"}, "text": "b"}
    end = {"delta": {"content": ""}, "message": {"content": "ab"}, "finish_reason": "stop"}
    events = read(choices(choice(0, "a")), choices(both), choices(end), DONE)
    assert text_of(events) == "ab"


def test_a_message_that_came_first_is_not_read_again_behind_deltas() -> None:
    first = {"delta": {"content": ""}, "message": {"content": "a"}}
    end = {"delta": {"content": ""}, "message": {"content": "ab"}, "finish_reason": "stop"}
    assert text_of(read(choices(first), choices(choice(0, "b")), choices(end), DONE)) == "ab"


def test_a_message_behind_thoughts_alone_is_read() -> None:
    thought = event(chunk({"reasoning_content": "hm"}))
    events = read(thought, choices({"message": {"content": "a"}, "finish_reason": "stop"}))
    assert (thought_of(events), text_of(events)) == ("hm", "a")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking", "thinking": "hm"},
        {"type": "reasoning", "text": "hm"},
        {"type": "reasoning", "reasoning": "hm"},
    ],
)
def test_parts_of_reasoning_are_no_text(part: dict[str, Any]) -> None:
    content = [part, {"type": "text", "text": "a"}]
    assert read(event(chunk({"content": content}, "stop")))[:-1] == [
        ReasoningDelta("hm"),
        TextDelta("a"),
    ]


UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"choices": [{"index": 0, "output": "hello", "finish_reason": "stop"}]}, "output"),
    ({"choices": [{"delta": {"output_text": "hello"}, "finish_reason": "stop"}]}, "output_text"),
    (chunk({"content": [{"type": "picture", "data": "x"}]}, "stop"), "'picture'"),
    (chunk({"content": [["hello"]]}, "stop"), "hello"),
    ({"response": "hello", "done": True}, "response"),
    ({"type": "content_block_delta", "delta": {"text": "hello"}}, "delta"),
    ({"candidates": [{"content": {"parts": []}}]}, "candidates"),
]


@pytest.mark.parametrize(("document", "named"), UNKNOWN)
def test_an_answer_in_no_known_form_is_never_an_empty_success(
    document: dict[str, Any], named: str
) -> None:
    for pieces in ([event(document)], [event(document), DONE], [event(document), STOP, DONE]):
        failure = refusal(*pieces, content_type="text/odd")
        assert failure.kind is FailureKind.BAD_RESPONSE
        assert "text/odd" in failure.message
        assert named in failure.message
    with pytest.raises(ModelFailed):
        read_whole(orjson.dumps(document))


def test_an_answer_that_ends_for_a_call_without_any_is_no_empty_success() -> None:
    failure = refusal(event(chunk({"content": ""}, "tool_calls")), DONE)
    assert "without any content" in failure.message


def test_what_is_not_known_beside_text_does_no_harm() -> None:
    odd = {**chunk({"content": [{"type": "picture"}, "a"], "mood": "good"}), "extra": {"x": 1}}
    assert text_of(read(event(odd), event({"type": "ping"}), STOP, DONE)) == "a"


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("length", StopReason.LENGTH),
        ("MAX_TOKENS", StopReason.LENGTH),
        ("content_filter", StopReason.CONTENT_FILTER),
        ("sensitive", StopReason.CONTENT_FILTER),
        ("SAFETY", StopReason.CONTENT_FILTER),
        ("stop", StopReason.STOP),
    ],
)
@pytest.mark.parametrize("content", [None, ""])
def test_an_answer_that_the_provider_calls_empty_is_complete(
    reason: str, stop: StopReason, content: str | None
) -> None:
    last = chunk({"role": "assistant", "content": content}, reason)
    assert read(event(last), DONE) == [ModelFinished(stop)]
    message = {"message": {"role": "assistant", "content": content}, "finish_reason": reason}
    assert read_whole(orjson.dumps({"choices": [message]})) == [ModelFinished(stop)]


@pytest.mark.parametrize("reason", ["null", "None", "", None])
def test_a_reason_that_is_none_does_not_end_the_answer(reason: str | None) -> None:
    with pytest.raises(ModelFailed, match="before the answer was complete"):
        read(event(chunk({"content": "a"}, reason)))


FUNCTION = {"name": "", "arguments": ""}
STUBS: list[dict[str, Any]] = [
    {"function_call": FUNCTION},
    {"function_call": {"name": None, "arguments": "{}"}},
    {"function_call": {}},
    {"tool_calls": [{}]},
    {"tool_calls": [None]},
    {"tool_calls": []},
    {"tool_calls": {}},
    {"tool_calls": {"index": 0, "function": FUNCTION}},
    {"tool_calls": "[]"},
    {"tool_calls": [[], "", {"function": ""}]},
    {"tool_calls": [{"function": {"name": " ", "arguments": ""}}]},
    {"function_call": "none"},
    {"tool_calls": [{"index": 0, "id": "", "type": "function", "function": FUNCTION}]},
    {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": FUNCTION}]},
    {"tool_calls": [{"index": 0, "function": None}]},
    {"tool_calls": [{"index": 0, "function": {"name": None, "arguments": None}}]},
    {"tool_calls": [{"function": {"name": "", "arguments": {}}}, {}]},
]


@pytest.mark.parametrize("stub", STUBS)
@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call"])
def test_an_empty_stub_is_no_call(stub: dict[str, Any], reason: str) -> None:
    expected = [TextDelta("a"), ModelFinished(StopReason.STOP)]
    assert read(event(chunk({"content": "a"})), event(chunk(stub, reason)), DONE) == expected
    message = {"role": "assistant", "content": "a", **stub}
    body = {"choices": [{"message": message, "finish_reason": reason}]}
    assert read_whole(orjson.dumps(body)) == expected


def test_a_stub_beside_a_call_changes_nothing() -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}
    calls: list[ModelEvent] = [ToolCallDelta(0, "c1", "f")]
    stub = {"index": 1, "function": FUNCTION}
    events = read(
        event(chunk({"tool_calls": [call]})), event(chunk({"tool_calls": [stub]}, "stop"))
    )
    assert events == [*calls, ModelFinished(StopReason.TOOL_CALLS)]


@pytest.mark.parametrize("trouble", [b'data: {"usage": {"prompt_t', b"data: nonsense\n\n"])
def test_what_was_cut_behind_the_finish_reason_is_not_missed(trouble: bytes) -> None:
    events = read(event(chunk({"content": "a"}, "stop")), trouble)
    assert (text_of(events), finished(events).stop) == ("a", StopReason.STOP)


def test_text_behind_the_finish_reason_is_read() -> None:
    events = read(event(chunk({"content": "a"}, "stop")), event(chunk({"content": "b"})), DONE)
    assert text_of(events) == "ab"


def test_lines_of_json_are_read_as_chunks() -> None:
    lines = [orjson.dumps(chunk({"content": text})) for text in ("a", "b")]
    last = orjson.dumps(chunk({}, "length"))
    assert read_whole(b"\n".join([*lines, last])) == [
        TextDelta("a"),
        TextDelta("b"),
        ModelFinished(StopReason.LENGTH),
    ]
    assert text_of(read_whole(b"[" + b",".join([*lines, last]) + b"]")) == "ab"
    with pytest.raises(ModelFailed, match="before the answer was complete"):
        read_whole(b"\n".join(lines))
