"""The Messages API with generated conversations, events and pieces."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.providers.anthropic.answer import Answer
from opensoul.adapters.providers.anthropic.messages import blocks_of
from opensoul.adapters.providers.anthropic.request import body
from opensoul.adapters.providers.http import ApiDescription, FailureFactory, PerMessage
from opensoul.domain.errors import ModelFailed
from opensoul.domain.messages import Message, Part, Reasoning, Role, Text, ToolCall
from opensoul.domain.models import ModelEvent, ModelRequest
from opensoul.domain.sessions import repaired
from opensoul.domain.tools import ToolSpec
from tests.fakes import anthropic
from tests.fakes.behaviours import Received

from .calls import call

FAILURES = FailureFactory(call().target, ApiDescription("Messages", "a message", str))
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01", "content-type": "application/json"}


def read(*pieces: bytes) -> list[ModelEvent]:
    answer = Answer(FAILURES)
    events: list[ModelEvent] = []
    for piece in pieces:
        if not answer.done:
            events += answer.feed(piece)
            answer.check()
    if not answer.done:
        events += answer.end()
        answer.check()
    return [*events, answer.finished()]


STREAM = b"".join(
    map(
        anthropic.encoded,
        anthropic.events(
            anthropic.thought("Let me think \U0001f600"),
            anthropic.text("Grüße\r\n\n"),
            anthropic.call("a", "look", {"at": 'the "sea"'}),
            anthropic.call("b", "now"),
        ),
    )
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_a_stream_may_be_cut_anywhere(places: list[int]) -> None:
    cuts = [0, *sorted(places), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(cuts)]

    assert read(*pieces) == read(STREAM)


KEYS = (
    *("type", "index", "message", "content_block", "delta", "usage", "error", "id", "name"),
    *("text", "thinking", "signature", "data", "input", "partial_json", "stop_reason"),
    *("input_tokens", "output_tokens", "content"),
)
KINDS = (
    *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
    *("message_delta", "message_stop", "error", "ping"),
    *("text", "thinking", "redacted_thinking", "tool_use"),
    *("text_delta", "thinking_delta", "signature_delta", "input_json_delta"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(KINDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=5))
def test_no_event_makes_it_fail_otherwise(documents: list[object]) -> None:
    try:
        read(*(b"data: " + orjson.dumps(one) + b"\n\n" for one in documents))
    except ModelFailed as error:
        assert error.message  # noqa: PT017 - the call may succeed as well


@given(JSON)
def test_no_document_makes_it_fail_otherwise(document: object) -> None:
    try:
        Answer(FAILURES).whole(orjson.dumps({"type": "message", "content": document}))
    except ModelFailed as error:
        assert error.message  # noqa: PT017 - the call may succeed as well


TEXTS = st.sampled_from(["Hi", "", " ", "a b ", "\U0001f600"]).map(Text)
IDS = st.sampled_from(["a", "b", "call_0", "call_0_2", "x:1", ""])
CALLS = st.builds(ToolCall, IDS, st.just("look"), st.sampled_from(["{}", "", "{", "[]", '{"a":1}']))
THOUGHTS = st.builds(
    lambda text, model, is_signed: Reasoning(
        text, anthropic.signature(text) if is_signed else "", model
    ),
    st.sampled_from(["hm", ""]),
    st.sampled_from(["acme/tiny", "other/m"]),
    st.booleans(),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    messages = [Message(Role.USER, (Text("Hi"),))]
    for _ in range(draw(st.integers(0, 5))):
        parts: list[Part] = [
            *draw(st.lists(THOUGHTS, max_size=2)),
            *draw(st.lists(TEXTS, max_size=2)),
        ]
        calls = draw(st.lists(CALLS, max_size=3))
        messages.append(Message(Role.ASSISTANT, (*parts, *calls)))
        for one in draw(st.permutations(calls)):
            if draw(st.integers(0, 9)):
                messages.append(Message(Role.TOOL, (draw(TEXTS),), tool_call_id=one.id))
        if not calls or draw(st.booleans()):
            messages.append(Message(Role.USER, (Text("And?"), *draw(st.lists(TEXTS, max_size=1)))))
    return [*messages, Message(Role.USER, (Text("Well?"),))] if draw(st.booleans()) else messages


@given(conversations(), st.booleans(), st.sampled_from([None, "low", "high"]))
def test_a_strict_server_accepts_every_conversation(
    messages: list[Message], offered: bool, effort: str | None
) -> None:
    params: dict[str, Any] = {} if effort is None else {"reasoning_effort": effort}
    tools = (ToolSpec("look", "Looks."),) if offered else ()
    request = ModelRequest(call().target, repaired(messages), params, tools)
    sent = body(request, PerMessage(blocks_of), FAILURES)

    content = orjson.loads(sent)
    anthropic.check(Received("POST", "/v1/messages", HEADERS, sent, content, 1))
