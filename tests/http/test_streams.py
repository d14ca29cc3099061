"""Streamed answers: their shape, their status, their silence and their end."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opensoul.adapters.persistence.common.live_logs import BOUNDS, Bounds
from opensoul.adapters.persistence.memory.run_events import MemoryRunEvents
from opensoul.adapters.transports.answering.runs import Feed, collect
from opensoul.adapters.transports.http.context import RequestContext
from opensoul.adapters.transports.openai.chat.answers import Frames, Head
from opensoul.domain.access.addresses import ClientAddress
from opensoul.domain.errors import (
    EventsExpired,
    FailureKind,
    GatewayError,
    ModelFailed,
    RunAborted,
    RunFailed,
)
from opensoul.domain.models.calls import ModelFinished, ReasoningDelta, StopReason, TextDelta, Usage
from opensoul.domain.runs.events import Aborted, EventBatch, Failed, Finished, RunEvent, Started
from opensoul.domain.runs.records import RunRecord
from opensoul.domain.sessions.keys import SessionKey

from .app import Harness
from .client import Bare, Client, bare
from .conftest import AccessLog

pytestmark = pytest.mark.both_loops

STOP = ModelFinished(StopReason.STOP, Usage(1, 1))
END = Finished(StopReason.STOP, Usage(1, 1), "fake/fake-1")


async def test_the_shape_of_a_stream(client: Client) -> None:
    reply = await client.chat(stream=True, model="opensoul:beta")

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["X-Accel-Buffering"] == "no"
    assert reply.headers["x-opensoul-agent-id"] == "beta"
    assert "first-token;dur=" in reply.headers["Server-Timing"]
    assert "total" not in reply.headers["Server-Timing"]
    assert reply.frames[-1] == "[DONE]"
    first, *_, last = reply.chunks
    assert first["id"] == "chatcmpl_" + reply.headers["x-opensoul-run-id"]
    assert first["model"] == "opensoul:beta"
    for name in ("id", "created", "model", "object"):
        assert {chunk[name] for chunk in reply.chunks} == {first[name]}
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    ]
    assert reply.said == "Hello"
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in reply.chunks]
    assert finishes == [None] * (len(finishes) - 1) + ["stop"]
    assert all("usage" not in chunk for chunk in reply.chunks)


async def test_equal_deltas_are_all_told(gateway: Harness, client: Client) -> None:
    gateway.model.script = (TextDelta("hi"), TextDelta("hi"), STOP)

    assert (await client.chat(stream=True)).said == "hihi"


async def test_text_of_any_kind_arrives_unchanged(gateway: Harness, client: Client) -> None:
    texts = ['"quoted"\n', "東京 🦊", "\udc00", "\u2028</script>\x00", "data: [DONE]\n\n"]
    gateway.model.script = (*map(TextDelta, texts), STOP)

    assert (await client.chat(stream=True)).said == "".join(texts)


async def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(
    gateway: Harness, client: Client
) -> None:
    usage = Usage(input=10, output=4, reasoning=3, cached=2)
    gateway.model.script = (TextDelta("x"), ModelFinished(StopReason.LENGTH, usage))

    reply = await client.chat(stream=True, stream_options={"include_usage": True})

    *others, last = reply.chunks
    assert all(chunk["usage"] is None for chunk in others)
    assert others[-1]["choices"][0]["finish_reason"] == "length"
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_that_was_estimated_says_so(
    gateway: Harness, client: Client, stream: bool
) -> None:
    gateway.model.script = (TextDelta("Hello"), ModelFinished(StopReason.STOP))
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}

    reply = await client.chat(stream=stream, **options)

    usage = reply.chunks[-1]["usage"] if stream else reply.json["usage"]
    assert usage["estimated"] is True
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0


@pytest.mark.parametrize("stop", [StopReason.LENGTH, StopReason.CONTENT_FILTER])
@pytest.mark.parametrize("stream", [True, False])
async def test_the_providers_reason_to_stop_is_passed_on(
    gateway: Harness, client: Client, stream: bool, stop: StopReason
) -> None:
    gateway.model.script = (TextDelta("x"), ModelFinished(stop, Usage(1, 1)))

    reply = await client.chat(stream=stream)

    answer = reply.chunks[-1] if stream else reply.json
    assert answer["choices"][0]["finish_reason"] == stop.value


async def test_thoughts_are_told_apart_from_speech(gateway: Harness, client: Client) -> None:
    gateway.model.script = (ReasoningDelta("Hm"), ReasoningDelta("m"), TextDelta("Yes"), STOP)

    streamed = await client.chat(stream=True)
    whole = await client.chat()

    deltas = [chunk["choices"][0]["delta"] for chunk in streamed.chunks]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm"},
        {"reasoning_content": "m"},
        {"content": "Yes"},
        {},
    ]
    message = whole.json["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Yes", "Hmm")


async def test_an_answer_without_a_word_is_still_a_whole_stream(
    gateway: Harness, client: Client
) -> None:
    gateway.model.script = (STOP,)

    reply = await client.chat(stream=True)

    assert [chunk["choices"][0]["delta"] for chunk in reply.chunks] == [
        {"role": "assistant", "content": ""},
        {},
    ]
    assert reply.frames[-1] == "[DONE]"


async def test_a_failure_in_mid_stream_is_an_error_and_no_end(
    gateway: Harness, client: Client, access_log: AccessLog
) -> None:
    broken = ModelFailed(FailureKind.BAD_RESPONSE, "The provider's stream was cut.")
    gateway.model.script = (TextDelta("Hel"), broken)

    reply = await client.chat(stream=True)

    assert reply.status == 200
    assert "[DONE]" not in reply.frames
    assert reply.said == "Hel"
    assert reply.chunks[-1] == {
        "error": {
            "message": "The provider's stream was cut.",
            "type": "server_error",
            "param": None,
            "code": "provider_bad_response",
        }
    }
    line = await access_log.line()
    assert (line["outcome"], line["code"], line["status"]) == (
        "failed",
        "provider_bad_response",
        200,
    )


async def test_a_surprise_in_mid_stream_tells_no_internals(
    gateway: Harness, client: Client
) -> None:
    gateway.model.script = (TextDelta("Hel"), ZeroDivisionError("secret detail"))

    reply = await client.chat(stream=True)

    assert "secret detail" not in reply.body.decode()
    assert reply.chunks[-1]["error"]["type"] == "server_error"
    assert "[DONE]" not in reply.frames


@pytest.mark.parametrize("stream", [True, False])
async def test_a_run_stopped_by_somebody_else_is_told_as_aborted(
    gateway: Harness, client: Client, stream: bool
) -> None:
    gateway.model.script = (TextDelta("Hel"), asyncio.Event())
    asking = asyncio.create_task(client.chat(stream=stream))
    await gateway.model.called.wait()

    await gateway.queue.abort(gateway.run_log.runs[0], "Stopped by the operator.")
    reply = await asking

    error = reply.chunks[-1]["error"] if reply.status == 200 else reply.error
    assert error["code"] == "run_aborted"
    assert error["message"] == "Stopped by the operator."
    assert b"[DONE]" not in reply.body
    if not stream:
        assert reply.status == 409
        assert reply.headers["x-should-retry"] == "false"
        assert "x-opensoul-run-id" in reply.headers


async def until(wire: Bare, wanted: bytes) -> bytes:
    return await wire.reader.readuntil(wanted)


async def test_silence_is_filled_before_and_after_the_first_token(gateway: Harness) -> None:
    gateway.chat(keepalive=0.05)
    first, second = asyncio.Event(), asyncio.Event()
    gateway.model.script = (first, TextDelta("Hel"), second, TextDelta("lo"), STOP)
    async with asyncio.timeout(20), bare(gateway.port) as wire:
        wire.send_chat(stream=True)
        status, head = await wire.read_head()
        assert status == 200
        assert b"first-token" not in head
        for _ in range(2):
            await until(wire, b": keepalive\n\n")
        first.set()
        await until(wire, b'"content":"Hel"')
        # Without an empty line, which some clients take for an event once there was an id.
        await until(wire, b"\n\n\r\n")
        assert b"\n\n" not in await until(wire, b": keepalive\n")
        second.set()
        await until(wire, b"data: [DONE]\n\n")


async def test_a_failure_after_the_first_keepalive_is_an_error_event(gateway: Harness) -> None:
    gateway.chat(keepalive=0.05)
    gate = asyncio.Event()
    gateway.model.script = (gate, ModelFailed(FailureKind.OVERLOADED, "Too much."))
    async with asyncio.timeout(20), bare(gateway.port) as wire:
        wire.send_chat(stream=True)
        assert (await wire.read_head())[0] == 200
        await until(wire, b": keepalive\n\n")
        gate.set()
        rest = await until(wire, b"\r\n0\r\n\r\n")

    assert b"provider_overloaded" in rest
    assert b"[DONE]" not in rest


async def test_the_head_waits_for_something_worth_telling(gateway: Harness) -> None:
    gate = asyncio.Event()
    gateway.model.script = (gate, TextDelta("Hi"), STOP)
    async with asyncio.timeout(20), bare(gateway.port) as wire:
        wire.send_chat(stream=True)
        await gateway.model.called.wait()
        reading = asyncio.create_task(wire.read_head())
        await asyncio.wait([reading], timeout=0.05)
        assert not reading.done()
        gate.set()
        assert (await reading)[0] == 200
        await until(wire, b"data: [DONE]\n\n")


async def told(*spans: Sequence[RunEvent]) -> AsyncIterator[EventBatch]:
    """The events of a run: what is in one sequence is told together."""
    first = 1
    for events in spans:
        yield EventBatch(first, events)
        first += len(events)


def request_context() -> RequestContext:
    return RequestContext("r", ClientAddress("127.0.0.1"))


def frames() -> Frames:
    return Frames(Head("chatcmpl_1", 1, "opensoul"), include_usage=False)


def running(bounds: Bounds = BOUNDS) -> MemoryRunEvents:
    """A log with the run `r` in it, which has told nothing yet."""
    log = MemoryRunEvents(clock=time.time, bounds=bounds)
    log.open(RunRecord("r", SessionKey("main", "talk"), "main", "operator", "chat"))
    return log


def texts_of(taken: bytes) -> list[str]:
    """What each chunk with text in it says, one by one."""
    data = [line[6:] for line in taken.decode().split("\n") if line.startswith("data: ")]
    choices = [json.loads(frame)["choices"][0] for frame in data if frame != "[DONE]"]
    return [text for choice in choices if (text := choice["delta"].get("content"))]


@example([","])
@example([",", "b", ","])
@example(['a",', "b"])
@given(st.lists(st.text(st.sampled_from('",\\ab\ud800\u00e9')), min_size=1))
def test_every_text_has_a_frame_of_its_own_whatever_is_in_it(texts: list[str]) -> None:
    told = frames().of([TextDelta(text) for text in texts], 1)
    chunks = [json.loads(frame[6:]) for frame in told.split(b"\n\n")[:-1]]
    assert [c["choices"][0]["delta"]["content"] for c in chunks] == ["", *texts]


async def test_frames_that_gathered_are_taken_at_once() -> None:
    feed = Feed(
        told([TextDelta("a"), TextDelta("b"), END]), frames(), request_context(), patience=10
    )

    taken = await feed.take()

    assert taken is not None
    assert taken.count(b"data: ") == 5
    assert await feed.take() == b""


async def test_a_client_that_lags_holds_a_bounded_part_of_its_stream() -> None:
    log = running()
    log.put("r", *[TextDelta("x" * 100)] * 15_000, END)
    feed = Feed(log.follow("r"), frames(), request_context(), patience=10)

    sizes = []
    while taken := await feed.take():
        sizes.append(len(taken))

    assert sum(sizes) > 2_000_000
    assert max(sizes) < 100_000


async def test_what_a_client_has_not_taken_waits_in_the_log_and_nowhere_else() -> None:
    log = running(Bounds(events_per_run=10))
    feed = Feed(log.follow("r"), frames(), request_context(), patience=10)
    log.put("r", TextDelta("a"))
    assert await feed.take()
    for _ in range(20):
        log.put("r", TextDelta("b"))
        await asyncio.sleep(0)
    with pytest.raises(EventsExpired, match="Event 2 "):
        await feed.take()


async def test_silence_loses_nothing_of_what_comes_behind_it() -> None:
    log = running()
    feed = Feed(log.follow("r"), frames(), request_context(), patience=0.01)
    for n in range(5):
        assert await feed.take() is None
        assert await feed.take() is None
        log.put("r", TextDelta(f"<{n}>"), TextDelta("|"))
        taken = await feed.take()
        assert taken is not None
        assert texts_of(taken) == [f"<{n}>", "|"]
    log.put("r", END)
    assert await feed.take()
    assert await feed.take() == b""


@pytest.mark.parametrize(
    ("ending", "code"),
    [(Failed("run_failed", "it broke"), "run_failed"), (Aborted("enough"), "run_aborted")],
)
async def test_a_failure_is_told_behind_the_frames_that_came_before_it(
    ending: RunEvent, code: str
) -> None:
    events = told([Started(0.0, 0.0)], [TextDelta("a"), TextDelta("b"), ending])
    feed = Feed(events, frames(), request_context(), patience=10)

    taken = await feed.take()

    assert taken is not None
    assert texts_of(taken) == ["a", "b"]
    assert b"[DONE]" not in taken
    with pytest.raises(GatewayError) as raised:
        await feed.take()
    assert raised.value.code == code


async def test_a_failure_with_nothing_before_it_is_told_at_once() -> None:
    feed = Feed(
        told([Started(0.0, 0.0), Aborted("enough")]), frames(), request_context(), patience=10
    )
    with pytest.raises(RunAborted, match="enough"):
        await feed.take()


async def test_what_came_together_is_noted_as_if_it_had_come_one_by_one() -> None:
    noted = request_context()
    feed = Feed(told([Started(0.5, 0.25), TextDelta("a"), END]), frames(), noted, patience=10)
    await feed.take()
    assert (noted.timings["queue"], noted.timings["history"]) == (0.5, 0.25)
    assert "first-token" in noted.timings
    assert noted.outcome == "answered"
    assert noted.log_fields["answered_by"] == "fake/fake-1"


async def test_pieces_that_a_model_told_together_are_chunks_of_their_own_in_one_piece(
    gateway: Harness,
) -> None:
    gate = asyncio.Event()
    together = tuple(map(TextDelta, ["a", "b", "b", "c"]))
    gateway.model.script = (TextDelta("first"), gate, together, STOP)
    async with asyncio.timeout(20), bare(gateway.port) as wire:
        wire.send_chat(stream=True)
        await wire.read_head()
        await until(wire, b'"content":"first"')
        await until(wire, b"\r\n")
        gate.set()
        size = int(await until(wire, b"\r\n"), 16)
        assert texts_of(await wire.reader.readexactly(size))[:4] == ["a", "b", "b", "c"]


async def test_events_without_an_end_are_a_failure() -> None:
    feed = Feed(told([TextDelta("a")]), frames(), request_context(), patience=10)
    assert await feed.take()
    with pytest.raises(RunFailed):
        await feed.take()
    with pytest.raises(RunFailed):
        await collect(told([TextDelta("a")]), request_context())


async def test_every_frame_is_one_line_of_json_with_an_id_or_without(client: Client) -> None:
    reply = await client.chat(stream=True)

    blocks = reply.body.decode().split("\n\n")
    assert blocks.pop() == ""
    for block in blocks[:-1]:
        data, *others = block.split("\n")
        json.loads(data.removeprefix("data: "))
        assert all(re.fullmatch(r"id: [-0-9a-f]{36}:[0-9]+", line) for line in others)
