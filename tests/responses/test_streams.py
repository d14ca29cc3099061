"""The events of a streamed answer: their order, their numbers, and how a stream ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from opensoul.adapters.transports.http import Problem
from opensoul.adapters.transports.openai.common import Extras
from opensoul.adapters.transports.openai.responses import Head
from opensoul.adapters.transports.openai.responses.frames import Frames
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.messages import ToolCall
from opensoul.domain.models import (
    ModelFinished,
    ReasoningDelta,
    StopReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from opensoul.domain.runs import (
    Aborted,
    ClientCalls,
    Finished,
    Resumed,
    RunEvent,
    StepDone,
    ToolFinished,
    ToolStarted,
)
from tests.http.app import Harness
from tests.http.client import bare

from .client import RESPONSES, ResponsesClient, events_of, text_of

PUBLISHED: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
END = ModelFinished(StopReason.STOP, Usage(input=7, output=2))
HEAD = Head("resp_0b5c5e526cd24f398d614a0f6b6f9a11", 1, {"model": "opensoul"})
MESSAGE = [
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]
REASONING = [
    "response.output_item.added",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_summary_part.done",
    "response.output_item.done",
]
CALL = [
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
]


def call_of(name: str = "f", arguments: str = '{"a":1}') -> tuple[ToolCallDelta, ModelFinished]:
    end = ModelFinished(StopReason.TOOL_CALLS, Usage(input=7, output=2))
    return ToolCallDelta(0, "c1", name, arguments), end


def kinds(events: Sequence[dict[str, Any]]) -> list[str]:
    """The types of the events between the first two and the last."""
    begin, progress, *between, _ = [event["type"] for event in events]
    assert [begin, progress] == ["response.created", "response.in_progress"]
    return between


async def test_every_event_of_the_published_sequence_is_sent_in_order(
    client: ResponsesClient,
) -> None:
    reply = await client.respond(stream=True)

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    events = events_of(reply)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    for event in events:
        PUBLISHED.validate_json(json.dumps(event), strict=True)
    assert (events[0]["response"]["status"], events[0]["response"]["output"]) == ("in_progress", [])
    assert [event["delta"] for event in events[4:6]] == ["Hel", "lo"]
    assert events[6]["text"] == events[7]["part"]["text"] == "Hello"
    assert events[8]["item"] == events[9]["response"]["output"][0]


async def test_a_stream_ends_with_the_object_of_the_same_answer(
    gateway: Harness, client: ResponsesClient
) -> None:
    gateway.model.script = (ReasoningDelta("Hm."), TextDelta("Yes."), END)
    fields: dict[str, Any] = {
        "instructions": "Be kind.",
        "metadata": {"a": "b"},
        "temperature": 0.5,
    }

    whole = (await client.respond(**fields)).json
    last = events_of(await client.respond(stream=True, **fields))[-1]["response"]

    for body in (whole, last):
        for name in ("id", "created_at", "completed_at"):
            del body[name]
        for item in body["output"]:
            del item["id"]
    assert last == whole


async def test_reasoning_is_streamed_as_a_summary_before_the_message(
    gateway: Harness, client: ResponsesClient
) -> None:
    gateway.model.script = (ReasoningDelta("Hm."), TextDelta("Yes."), END)

    events = events_of(await client.respond(stream=True))
    assert kinds(events) == [*REASONING, *MESSAGE]
    for event in events:
        PUBLISHED.validate_json(json.dumps(event), strict=True)

    omit = {"x-opensoul-reasoning": "omit"}
    assert kinds(events_of(await client.respond(stream=True, headers=omit))) == MESSAGE


async def test_reasoning_that_is_off_is_sent_where_a_summary_is_asked_for(
    gateway: Harness, client: ResponsesClient
) -> None:
    gateway.model.script = (ReasoningDelta("Hm."), TextDelta("Yes."), END)
    gateway.chat(reasoning=False)

    assert kinds(events_of(await client.respond(stream=True))) == MESSAGE
    asked = await client.respond(stream=True, reasoning={"summary": "auto"})
    assert kinds(events_of(asked)) == [*REASONING, *MESSAGE]


async def test_calls_of_the_clients_tools_are_items_behind_the_message(
    gateway: Harness, client: ResponsesClient
) -> None:
    gateway.model.script = (TextDelta("Let me see."), *call_of())

    events = events_of(await client.respond(stream=True, tools=[TOOL]))
    assert kinds(events) == [*MESSAGE, *CALL]
    for event in events:
        PUBLISHED.validate_json(json.dumps(event), strict=True)
    message, call = events[-1]["response"]["output"]
    assert message["content"][0]["text"] == "Let me see."
    assert (call["name"], call["arguments"]) == ("f", '{"a":1}')
    assert call["call_id"] != call["id"]
    assert events[-1]["response"]["status"] == "completed"


async def test_an_answer_of_calls_alone_has_no_message(
    gateway: Harness, client: ResponsesClient
) -> None:
    gateway.model.script = call_of()
    assert kinds(events_of(await client.respond(stream=True, tools=[TOOL]))) == CALL


async def test_an_empty_answer_has_an_empty_message(
    gateway: Harness, client: ResponsesClient
) -> None:
    gateway.model.script = (END,)

    events = events_of(await client.respond(stream=True))
    assert kinds(events) == [kind for kind in MESSAGE if not kind.endswith("delta")]
    assert text_of(events[-1]["response"]) == ""


async def test_a_limit_of_tokens_makes_the_answer_incomplete(
    gateway: Harness, client: ResponsesClient
) -> None:
    gateway.model.script = (TextDelta("Wel"), ModelFinished(StopReason.LENGTH, Usage(1, 2)))

    *_, item, last = events_of(await client.respond(stream=True))
    assert item["item"]["status"] == "incomplete"
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_failure_before_the_answer_has_its_status(
    gateway: Harness, client: ResponsesClient
) -> None:
    gateway.model.script = (ModelFailed(FailureKind.OVERLOADED, "Too busy."),)

    reply = await client.respond(stream=True)
    assert reply.status == 502
    assert reply.error["code"] == "provider_overloaded"


async def test_a_failure_within_the_answer_is_one_last_event(
    gateway: Harness, client: ResponsesClient
) -> None:
    failure = ModelFailed(FailureKind.BAD_RESPONSE, "It broke.")
    gateway.model.script = (TextDelta("Hel"), failure)

    events = events_of(await client.respond(stream=True))
    assert [event["type"] for event in events[2:]] == [*MESSAGE[:3], "response.failed"]
    PUBLISHED.validate_json(json.dumps(events[-1]), strict=True)
    response = events[-1]["response"]
    assert response["status"] == "failed"
    assert response["error"]["code"] == "server_error"
    assert "It broke." in response["error"]["message"]
    assert response["output"][0]["status"] == "incomplete"
    assert text_of(response) == "Hel"


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "rate_limit_exceeded"), (400, "invalid_prompt"), (502, "server_error")],
)
def test_a_failed_response_has_a_published_code(status: int, code: str) -> None:
    frames = Frames(HEAD, extras=Extras(), clock=time.time)
    failed = frames.failure(Problem(status, "No.", "any"))
    last = json.loads(failed.split(b"\n\n")[2].split(b"data: ")[1])
    assert last["response"]["error"]["code"] == code


EVENTS: tuple[RunEvent, ...] = (
    ReasoningDelta("Hm"),
    ReasoningDelta("."),
    TextDelta('"Well", he said'),
    TextDelta("\ud83d"),
    ToolStarted("t1", "look", "{}"),
    ToolFinished("t1", False, "nothing"),
    ReasoningDelta("So."),
    TextDelta(" no.\n"),
    ClientCalls((ToolCall("c1", "f", ""), ToolCall("c2", "g", '{"a":"é"}'))),
    Finished(StopReason.TOOL_CALLS, Usage(1, 2), "m"),
)


@pytest.mark.parametrize("tools", [False, True])
def test_the_frames_are_the_same_however_the_events_come(tools: bool) -> None:
    one = Frames(HEAD, extras=Extras(tools=tools), clock=lambda: 2.0)
    each = Frames(HEAD, extras=Extras(tools=tools), clock=lambda: 2.0)

    whole = one.of(EVENTS, 1)
    assert b"".join(each.of((event,), i) for i, event in enumerate(EVENTS, 1)) == whole
    assert (b"opensoul.tool" in whole) == tools
    assert one.ended
    assert each.ended


def test_reasoning_within_a_message_is_an_item_of_its_own() -> None:
    frames = Frames(HEAD, extras=Extras(), clock=lambda: 2.0)
    last = frames.of(EVENTS, 1).decode().split("\n\n")[-3].split("data: ")[1]

    output = json.loads(last)["response"]["output"]
    assert [item["type"] for item in output] == [
        "reasoning",
        "message",
        "reasoning",
        "function_call",
        "function_call",
    ]
    assert [item["summary"][0]["text"] for item in output if "summary" in item] == ["Hm.", "So."]
    assert len({item["id"] for item in output}) == 5


async def test_a_run_is_aborted_when_its_client_leaves(gateway: Harness) -> None:
    going_on = asyncio.Event()
    gateway.model.script = (TextDelta("Hel"), going_on, END)
    body = json.dumps({"input": "Hi", "stream": True}).encode()

    async with bare(gateway.port) as connection:
        head = (f"Content-Length: {len(body)}", "Content-Type: application/json")
        connection.send_head(*head, path=RESPONSES)
        connection.writer.write(body)
        await connection.reader.readuntil(b"Hel")
        connection.leave()

        assert isinstance(await gateway.run_log.end_of(), Aborted)


AGAIN = Resumed(2, 2, "What executed the run died.")
CALLS = ClientCalls((ToolCall("c1", "f", "{}"),))


@pytest.mark.parametrize(
    ("lost", "again", "output"),
    [
        ([TextDelta("lo"), TextDelta("st")], [TextDelta("b")], ["thought", "a b"]),
        ([ReasoningDelta("lo"), ReasoningDelta("st")], [TextDelta("b")], ["thought", "a b"]),
        ([ReasoningDelta("lo"), TextDelta("st")], [TextDelta("b")], ["thought", "a b"]),
        (
            [ReasoningDelta("lost"), TextDelta("lost")],
            [ReasoningDelta("why"), TextDelta("b")],
            ["thought", "a b", "why"],
        ),
    ],
)
def test_an_answer_that_was_begun_again_has_nothing_of_the_lost_attempt(
    lost: list[RunEvent], again: list[RunEvent], output: list[str]
) -> None:
    frames = Frames(HEAD, extras=Extras(reasoning=True, tools=False), clock=time.time)
    end = Finished(StopReason.STOP, Usage(1, 1), "m")
    stored: list[RunEvent] = [ReasoningDelta("thought"), TextDelta("a "), StepDone(1)]
    events = sent(frames.of([*stored, *lost, AGAIN, *again, end], 1))

    done = [event for event in events if event["type"] == "response.output_text.done"]
    assert [event["text"] for event in done] == [output[1]]
    assert contents(events[-1]["response"]["output"]) == output


def test_a_message_of_which_nothing_is_left_is_not_in_the_answer() -> None:
    frames = Frames(HEAD, extras=Extras(reasoning=True, tools=False), clock=time.time)
    end = Finished(StopReason.TOOL_CALLS, Usage(1, 1), "m")
    lost: list[RunEvent] = [ReasoningDelta("lost"), TextDelta("lost")]
    events = sent(frames.of([*lost, AGAIN, CALLS, end], 1))

    assert contents(events[-1]["response"]["output"]) == ["f"]


def sent(frames: bytes) -> list[dict[str, Any]]:
    lines = frames.decode().splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    return [json.loads(text) for text in data]


def contents(output: Sequence[dict[str, Any]]) -> list[str]:
    """The text or the name of each item."""
    return [
        item["name"]
        if item["type"] == "function_call"
        else (item.get("content") or item["summary"])[0]["text"]
        for item in output
    ]
