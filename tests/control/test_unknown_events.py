"""Every consumer of run events passes over a kind that only a newer process knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from opensoul.adapters.persistence.common.event_codec import decode_events, encode_events
from opensoul.adapters.transports.answering.runs import collect
from opensoul.adapters.transports.control.broadcast.payloads import RunPayloads
from opensoul.adapters.transports.http.context import RequestContext
from opensoul.adapters.transports.openai.chat.answers import Frames
from opensoul.client.run_events import Resumed as ClientResumed
from opensoul.client.run_events import StepDone as ClientStepDone
from opensoul.client.run_events import ToolFinished as ClientToolFinished
from opensoul.client.run_events import ToolProgress as ClientToolProgress
from opensoul.client.run_events import ToolStarted as ClientToolStarted
from opensoul.client.run_events import Waiting as ClientWaiting
from opensoul.client.run_events import read_run_event, run_text
from opensoul.domain.messages import ToolCall
from opensoul.domain.models.calls import ReasoningDelta, StopReason, TextDelta, Usage
from opensoul.domain.runs import KINDS, consumed_by
from opensoul.domain.runs.events import (
    Aborted,
    ClientCalls,
    CompactionEnded,
    CompactionStarted,
    EventBatch,
    Failed,
    Finished,
    Pruned,
    Resumed,
    RunEvent,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Unknown,
    Waiting,
)
from opensoul.domain.runs.records import RunRecord, status_after
from opensoul.domain.sessions.keys import SessionKey
from tests.fakes.novel import novel
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
    return made.of(events, 1)


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
    return [payload for payload in sent if orjson.loads(payload)["stream"] != "unknown"]


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


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([TextDelta("half"), Resumed(2, 2, "it died")], id="the whole attempt is void"),
        pytest.param(
            [TextDelta("one "), StepDone(1), TextDelta("ha"), Resumed(2, 1, "it died")],
            id="what followed the last step is void",
        ),
        pytest.param([TextDelta("one "), Resumed(2, 0, "a signal")], id="nothing is void"),
    ],
)
async def test_a_new_attempt_voids_the_text_after_the_last_step(before: list[RunEvent]) -> None:
    """The three forms of the answer: complete, of the control protocol, and for a client."""
    rest = [TextDelta("two"), END] if TextDelta("one ") in before else KNOWN[1:]
    events = [*before, *rest]
    payloads = RunPayloads(RECORD)
    sent = [payloads.agent_event(seq, event, 1.0) for seq, event in enumerate(events, 1)]

    assert await by_answer(events) == ("one two", END)
    assert payloads.text == "one two"
    read = [read_run_event(orjson.loads(payload)) for payload in sent]
    assert run_text(event for event in read if event is not None) == "one two"


TOOL_EVENTS: list[tuple[RunEvent, object]] = [
    (
        ToolStarted("c1", "weather", '{"city":"Bern"}'),
        ClientToolStarted(7, "c1", "weather", {"city": "Bern"}),
    ),
    (ToolStarted("c1", "weather", "{cut"), ClientToolStarted(7, "c1", "weather", "{cut")),
    (ToolProgress("c1", "looking"), ClientToolProgress(7, "c1", "looking")),
    (ToolFinished("c1", True, "no such city"), ClientToolFinished(7, "c1", True, "no such city")),
    (StepDone(3), ClientStepDone(7, 3)),
    (Resumed(2, 4, "it died"), ClientResumed(7, 2, "it died", 4)),
    (Waiting("a signal"), ClientWaiting(7, "a signal")),
    (Waiting("approval", "a1", 9.0), ClientWaiting(7, "approval", "a1")),
]


@pytest.mark.parametrize(("event", "read"), TOOL_EVENTS)
def test_a_client_reads_what_the_gateway_sends(event: RunEvent, read: object) -> None:
    payload = RunPayloads(RECORD).agent_event(7, event, 1.0)

    assert read_run_event(orjson.loads(payload)) == read


SAMPLES: list[RunEvent] = [
    Started(0.0, 0.0),
    TextDelta("no"),
    ReasoningDelta("no"),
    *(event for event, _ in TOOL_EVENTS if not isinstance(event, Resumed)),
    Resumed(2, 0, "a signal"),
    CompactionStarted(),
    CompactionEnded(9, 5),
    Pruned(1, 2),
    ClientCalls((ToolCall("c1", "look", "{}"),)),
    END,
    Failed("run_failed", "no"),
    Aborted("no"),
]
DECLARED: list[tuple[Callable[[list[RunEvent]], Any], object]] = [
    (by_answer, collect),
    (by_stream, Frames.of),
    (by_log, RequestContext.observe),
    (by_status, status_after),
]
IGNORED = [
    pytest.param(consume, event, id=f"{consume.__name__}-{type(event).__name__}")
    for consume, function in DECLARED
    if (declared := consumed_by(function)) is not None
    for event in SAMPLES
    if type(event) in declared.ignores
]


def test_there_is_a_sample_of_every_kind() -> None:
    assert {type(event) for event in SAMPLES} == {kind.type for kind in KINDS}
    assert len(IGNORED) > 4 * len(TOOL_EVENTS) - 4


@pytest.mark.parametrize(("consume", "event"), IGNORED)
async def test_an_event_that_a_consumer_declares_to_ignore_makes_no_difference(
    consume: Callable[[list[RunEvent]], Any], event: RunEvent
) -> None:
    assert await consume([KNOWN[0], event, *KNOWN[1:]]) == await consume(KNOWN)


@pytest.mark.parametrize("event", [Unknown("novel"), novel(1)], ids=["newer process", "new kind"])
def test_a_kind_that_is_not_known_keeps_its_number_on_the_wire(event: RunEvent) -> None:
    payload = orjson.loads(RunPayloads(RECORD).agent_event(7, event, 1.0))

    assert (payload["seq"], payload["stream"]) == (7, "unknown")
    assert read_run_event(payload) is None
