"""Tool calls in the shapes in which providers send them, as the router puts them together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import orjson
import pytest

from opensoul.domain.execution.router import ModelAnswer, ModelRouter, Prompt
from opensoul.domain.messages import Role, ToolCall, text_message
from opensoul.domain.models import Cooldowns, ModelEvent, ModelFinished, ModelRequest, StopReason
from opensoul.domain.sessions import Transcript
from opensoul.domain.tools import ToolSpec
from tests.fakes.behaviours import chunk

from .answers import DONE, event, read, read_whole
from .calls import call as a_call

F, G = ToolCall("c1", "get_time", '{"a":1}'), ToolCall("c2", "look", '{"b":[2]}')
BARE = ToolCall("c1", "get_time", "{}")


class _Recorded:
    """A ModelClient with one answer."""

    def __init__(self, events: Sequence[ModelEvent]) -> None:
        self._events = events

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        yield self._events

    async def close(self) -> None:
        """There is nothing to release."""


async def calls_of(events: Sequence[ModelEvent]) -> list[ToolCall]:
    """The calls in the message that the router makes of an answer."""
    router = ModelRouter(
        clients={"openai-completions": _Recorded(events)}, cooldowns=Cooldowns(lambda: 0.0)
    )
    prompt = Prompt(
        run_id="r",
        agent_id="main",
        models=(a_call().target,),
        system=(),
        history=Transcript(),
        messages=(text_message(Role.USER, "Hi"),),
        params={},
        tools=(ToolSpec("get_time", ""), ToolSpec("look", "")),
    )
    batches = [batch async for batch in router.call(prompt)]
    answer = batches[-1][-1]
    assert isinstance(answer, ModelAnswer)
    return [part for part in answer.message.parts if isinstance(part, ToolCall)]


def piece(name: str | None = None, arguments: object = None, **fields: object) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {**fields, "function": {n: v for n, v in function.items() if v is not None}}


def deltas(*chunks: object, field: str = "tool_calls", reason: str = "tool_calls") -> list[bytes]:
    return [event(chunk({field: one})) for one in chunks] + [event(chunk({}, reason)), DONE]


def named(*calls: ToolCall) -> list[ToolCall]:
    """The calls with the ids that those without one get."""
    return [ToolCall(f"call_{n}", one.name, one.arguments) for n, one in enumerate(calls)]


EMPTY: tuple[object, ...] = ("", None, "{}", {}, "null", " ")


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param(
            [
                [piece("get_time", "", index=0, id="c1", type="function")],
                [piece(None, '{"a"', index=0)],
                [piece(None, ":1}", index=0)],
                [piece("look", "", index=1, id="c2", type="function")],
                [piece(None, '{"b":[2]}', index=1)],
            ],
            [F, G],
            id="as OpenAI does",
        ),
        pytest.param(
            [
                [piece("get_time", "", index=0, id="c1"), piece("look", "", index=1, id="c2")],
                [piece(None, '{"b":', index=1)],
                [piece(None, '{"a":', index=0)],
                [piece(None, "1}", index=0), piece(None, "[2]}", index=1)],
            ],
            [F, G],
            id="interleaved",
        ),
        pytest.param(
            [[piece("get_time", '{"a":1}', id="c1"), piece("look", '{"b":[2]}', id="c2")]],
            [F, G],
            id="whole, in one chunk, no index",
        ),
        pytest.param(
            [[piece("get_time", '{"a":1}', id="c1")], [piece("look", '{"b":[2]}', id="c2")]],
            [F, G],
            id="whole, in two chunks, no index",
        ),
        pytest.param(
            [[piece("get_time", '{"a":1}')], [piece("look", '{"b":[2]}')]],
            named(F, G),
            id="whole, in two chunks, no index and no id",
        ),
        pytest.param(
            [[piece("get_time", '{"a":1}'), piece("get_time", '{"a":2}')]],
            named(F, ToolCall("", "get_time", '{"a":2}')),
            id="one tool twice, no index and no id",
        ),
        pytest.param(
            [[piece("get_time", '{"a":1}')], [piece("get_time", '{"a":2}')]],
            named(F, ToolCall("", "get_time", '{"a":2}')),
            id="one tool twice, in two chunks, no index and no id",
        ),
        pytest.param(
            [[piece("get_time", "{}", index=0)], [piece("look", "{}", index=0)]],
            named(BARE, ToolCall("", "look", "{}")),
            id="all with index 0 and without arguments and ids",
        ),
        pytest.param(
            [[piece("get_time", "")], [piece("look", "")]],
            named(BARE, ToolCall("", "look", "{}")),
            id="no index, no id, no arguments",
        ),
        pytest.param(
            [
                [piece("get_time", "", id="c1")],
                [piece(None, '{"a":')],
                [piece(None, "1}")],
                [piece("look", "", id="c2")],
                [piece(None, '{"b":[2]}')],
            ],
            [F, G],
            id="in pieces, no index",
        ),
        pytest.param(
            [
                [piece("get_time", "", id="c1"), piece("look", "", id="c2")],
                [piece(None, '{"b":', id="c2")],
                [piece(None, '{"a":1}', id="c1")],
                [piece(None, "[2]}", id="c2")],
            ],
            [F, G],
            id="interleaved by id, no index",
        ),
        pytest.param(
            [
                [piece("get_time", "", id="c1"), piece("look", "", id="c2")],
                [piece(None, '{"a":'), piece(None, '{"b":')],
                [piece(None, "1}"), piece(None, "[2]}")],
            ],
            [F, G],
            id="interleaved by position, no index",
        ),
        pytest.param(
            [
                [piece("get_time", '{"a":1}', index=0, id="c1")],
                [piece("look", '{"b":', index=0, id="c2")],
                [piece(None, "[2]}", index=0, id="c2")],
            ],
            [F, G],
            id="all with index 0",
        ),
        pytest.param(
            [
                [piece("look", '{"b":', index=7, id="c2")],
                [piece("get_time", '{"a":1}', index="3", id="c1")],
                [piece(None, "[2]}", index="7")],
            ],
            [G, F],
            id="indexes that jump, and are texts",
        ),
        pytest.param(
            [
                [piece("get_time", '{"a"', index=0, id="c1")],
                [piece("get_time", ":", index=0, id="c1")],
                [piece("get_time", "1}", index=0, id="c1")],
                [piece("get_time", "", index=0, id="c1")],
            ],
            [F],
            id="name and id repeated",
        ),
        pytest.param(
            [
                [piece("get_time", '{"a"', index=0, id="x1")],
                [piece("get_time", ":1}", index=0, id="x2")],
            ],
            [ToolCall("x1", "get_time", '{"a":1}')],
            id="name repeated with a new id",
        ),
        pytest.param(
            [[piece("get_time", '{"a"')], [piece("get_time", ":1}")]],
            named(F),
            id="name repeated, no index and no id",
        ),
        pytest.param(
            [
                [piece("get", None, index=0, id="c1")],
                [piece("_time", None, index=0)],
                [piece(None, '{"a":1}', index=0)],
            ],
            [F],
            id="name in pieces",
        ),
        pytest.param(
            [
                [piece("get", None, index=0, id="c1")],
                [piece("get_time", "", index=0, id="c1")],
                [piece("get_time", '{"a":1}', index=0, id="c1")],
            ],
            [F],
            id="name growing",
        ),
        pytest.param(
            [
                [{"index": 0, "id": "c1", "type": "function"}],
                [piece("get_time", '{"a":1}', index=0)],
            ],
            [F],
            id="name after the id",
        ),
        pytest.param(
            [[piece("get_time", '{"a":1}', index=0)], [{"index": 0, "id": "c1"}]],
            [F],
            id="id after the name",
        ),
        pytest.param([[piece("get_time", {"a": 1}, index=0, id="c1")]], [F], id="an object"),
        pytest.param(
            [[piece("get_time", {}, index=0, id="c1")], [piece(None, '{"a":1}', index=0)]],
            [F],
            id="an empty object before the pieces",
        ),
        pytest.param(
            [
                [piece("get_time", "{}", index=0, id="c1")],
                [piece(None, '{"a":', index=0)],
                [piece(None, "1}", index=0)],
            ],
            [F],
            id="the text of an empty object before the pieces",
        ),
        *(
            pytest.param(
                [[piece("get_time", arguments, index=0, id="c1")]], [BARE], id=f"{arguments!r}"
            )
            for arguments in EMPTY
        ),
        pytest.param(
            [
                [piece("get_time", '{"a":', index=0, id="c1")],
                [piece(None, "1}", index=0)],
                [piece("get_time", '{"a":1}', index=0, id="c1")],
            ],
            [F],
            id="the whole call again at the end",
        ),
        pytest.param(
            [[{"id": "c1", "name": "get_time", "arguments": '{"a":1}'}]],
            [F],
            id="without the object `function`",
        ),
        pytest.param(
            [
                [{"function": {"index": n, "name": "get_time", "arguments": {"a": 1}}}]
                for n in range(2)
            ],
            named(F, F),
            id="as Ollama does",
        ),
        pytest.param(
            [piece("get_time", '{"a":1}', id="c1"), piece("look", '{"b":[2]}', id="c2")],
            [F, G],
            id="not in a list",
        ),
        pytest.param(
            [[piece("get_time", '{"a":1}', index=0, id="c"), piece("look", "{}", index=1, id="c")]],
            [ToolCall("c", "get_time", '{"a":1}'), ToolCall("call_1", "look", "{}")],
            id="one id for two calls",
        ),
        pytest.param(
            [[piece("get_time", '{"a":"{"}', id="c1")], [piece("look", '{"b":[2]}', id="c2")]],
            [ToolCall("c1", "get_time", '{"a":"{"}'), G],
            id="a brace in a text",
        ),
        pytest.param(
            [[piece("get_time", '{"a"', index=0, id="c1")]],
            [ToolCall("c1", "get_time", '{"a"')],
            id="cut off",
        ),
        pytest.param(
            [[piece("get_time", '{"a":1}', index=0, id="c1")], [piece("", "", index=1, id="")]],
            [F],
            id="an empty call at the end",
        ),
    ],
)
async def test_calls_are_put_together(chunks: list[object], expected: list[ToolCall]) -> None:
    events = read(*deltas(*chunks))

    assert await calls_of(events) == expected
    assert events[-1] == ModelFinished(StopReason.TOOL_CALLS)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([{"name": "get_time", "arguments": ""}, {"arguments": '{"a":'}, {"arguments": "1}"}], F),
        ([{"name": "get_time", "arguments": {"a": 1}}], F),
        ([{"name": "get"}, {"name": "_time"}, {"arguments": '{"a":1}'}], F),
        ([{"name": "get_time"}], BARE),
    ],
)
async def test_the_older_form_of_a_call_is_read(chunks: list[object], expected: ToolCall) -> None:
    events = read(*deltas(*chunks, field="function_call", reason="function_call"))

    assert await calls_of(events) == named(expected)


WHOLE = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        piece("get_time", '{"a":1}', id="c1", type="function"),
        piece("look", {"b": [2]}, id="c2", type="function"),
    ],
}


async def test_calls_in_the_last_message_only_are_read() -> None:
    last = {**chunk({}, "tool_calls"), "choices": [{"message": WHOLE, "finish_reason": "stop"}]}
    events = read(event(chunk({"role": "assistant", "content": ""})), event(last), DONE)

    assert await calls_of(events) == [F, G]
    assert events[-1] == ModelFinished(StopReason.TOOL_CALLS)


async def test_calls_that_the_last_message_repeats_are_read_once() -> None:
    streamed = [
        [piece("get_time", '{"a":1}', index=0, id="c1")],
        [piece("look", '{"b":[2]}', index=1, id="c2")],
    ]
    last = {**chunk({}), "choices": [{"message": WHOLE, "finish_reason": "tool_calls"}]}
    events = read(*deltas(*streamed)[:-2], event(last), DONE)

    assert await calls_of(events) == [F, G]


async def test_calls_of_an_answer_in_one_document_are_read() -> None:
    body = {"choices": [{"message": WHOLE, "finish_reason": "tool_calls"}]}

    assert await calls_of(read_whole(orjson.dumps(body))) == [F, G]


async def test_arguments_that_look_complete_at_every_piece_are_those_of_one_call() -> None:
    text = '{"a":"' + "}" * 1_000
    chunks = [event(chunk({"tool_calls": [piece("look", char, id="c")]})) for char in text]
    events = read(*chunks, event(chunk({}, "tool_calls")), DONE)

    assert await calls_of(events) == [ToolCall("c", "look", text)]
