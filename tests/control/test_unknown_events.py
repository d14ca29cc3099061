"""Every consumer of run events passes over a kind that only a newer process knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from opensoul.adapters.persistence.common.event_codec import decode_events, encode_events
from opensoul.adapters.transports.control.broadcast.payloads import RunPayloads
from opensoul.adapters.transports.openai.chat.sse import Frames
from opensoul.adapters.transports.openai.common.answers import collect
from opensoul.client.run_events import TextDelta as ClientDelta
from opensoul.client.run_events import read_run_event
from opensoul.domain.models.calls import StopReason, TextDelta, Usage
from opensoul.domain.runs.events import EventBatch, Finished, Resumed, RunEvent, Started
from opensoul.domain.runs.records import RunRecord, status_after
from opensoul.domain.sessions.keys import SessionKey
from tests.http.test_streams import frames, request_context

END = Finished(StopReason.STOP, Usage(1, 1), "fake/model")
KNOWN: list[RunEvent] = [Started(0.0, 0.0), TextDelta("one "), TextDelta("two"), END]
RECORD = RunRecord("r", SessionKey("main", "main"), "main", "operator", "agent")


def from_a_newer_process(events: list[RunEvent]) -> list[RunEvent]:
    """The events as stored by a process that knows one kind more, read by this one."""
    stored: list[Any] = orjson.loads(encode_events(events))
    mixed = [each for event in stored for each in (["novel", {"a": 1}], event)]
    return decode_events(orjson.dumps(mixed))


async def one_batch(events: list[RunEvent]) -> AsyncIterator[EventBatch]:
    yield EventBatch(1, events)


async def by_answer(events: list[RunEvent]) -> object:
    answer = await collect(one_batch(events), request_context())
    return answer.text, answer.finished


async def by_stream(events: list[RunEvent]) -> object:
    made: Frames = frames()
    return made.of(events)


async def by_log(events: list[RunEvent]) -> object:
    context = request_context()
    for event in events:
        context.observe(EventBatch(1, [event]))
    return context.outcome, context.log_fields


async def by_status(events: list[RunEvent]) -> object:
    return [status for event in events if (status := status_after(event)) is not None]


async def by_control(events: list[RunEvent]) -> object:
    payloads = RunPayloads(RECORD)
    sent = [payloads.agent_event(0, event, 1.0) for event in events]
    return [payload for payload in sent if payload is not None]


CONSUMERS = [by_answer, by_stream, by_log, by_status, by_control]


@pytest.mark.parametrize("consume", CONSUMERS)
async def test_it_makes_no_difference(consume: Callable[[list[RunEvent]], Any]) -> None:
    assert await consume(from_a_newer_process(KNOWN)) == await consume(KNOWN)


@pytest.mark.parametrize(
    ("stream", "data"),
    [("novel", {"a": 1}), ("lifecycle", {"phase": "novel"}), ("lifecycle", {})],
)
def test_nor_for_a_client(stream: str, data: dict[str, Any]) -> None:
    assert read_run_event({"seq": 1, "stream": stream, "data": data}) is None


@pytest.mark.parametrize("consume", [by_answer])
async def test_the_text_of_an_earlier_attempt_is_void(
    consume: Callable[[list[RunEvent]], Any],
) -> None:
    events = [Started(0.0, 0.0), TextDelta("half"), Resumed(2, 2, "its owner died"), *KNOWN[1:]]

    assert await consume(events) == ("one two", END)


def test_a_client_of_the_control_protocol_gets_the_text_of_the_new_attempt() -> None:
    payloads = RunPayloads(RECORD)
    for event in (TextDelta("half"), Resumed(2, 1, "its owner died")):
        payload = payloads.agent_event(1, event, 1.0)
    last = payloads.agent_event(3, TextDelta("whole"), 1.0)

    assert payload is not None
    assert last is not None
    assert orjson.loads(payload)["data"]["phase"] == "resumed"
    assert orjson.loads(last)["data"] == {"text": "whole", "delta": "whole"}
    assert read_run_event(orjson.loads(last)) == ClientDelta(3, "whole")
