"""What `chat.history` tells, and what it leaves out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from pydantic import ValidationError

from opensoul.adapters.transports.control.methods.history import MAX_BYTES
from opensoul.adapters.transports.control.methods.messages import CUT
from opensoul.domain.errors import InvalidRequest
from opensoul.domain.messages import Image, Message, Reasoning, Role, Text, ToolCall
from opensoul.domain.runs.spec import RunRequest
from tests.fakes.domain import Gate, answered, assistant, user
from tests.websocket.methods import OPERATOR, Bench, conversation, events


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.store.open()
    yield bench
    await bench.store.close()


def texts(told: dict[str, Any]) -> list[str]:
    return [message["content"][0]["text"] for message in told["messages"]]


async def test_a_session_that_nobody_has_used_has_an_empty_history(bench: Bench) -> None:
    assert await bench.ask("chat.history", sessionKey="main") == {
        "sessionKey": "agent:main:main",
        "messages": [],
        "defaults": {"modelProvider": "acme", "model": "one", "contextTokens": 200_000},
        "sessionInfo": {"hasActiveRun": False, "activeRunIds": [], "status": "done"},
        "hasMore": False,
        "pendingInputs": {"items": [], "total": 0},
    }


async def test_messages_come_oldest_first_with_time_run_model_and_number(bench: Bench) -> None:
    await bench.turn("main", at=5.0)
    told = await bench.ask("chat.history", sessionKey="main")
    assert told["sessionId"] == "s-main"
    assert told["messages"] == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "hello"}],
            "timestamp": 5_000,
            "runId": "run-id-1",
            "seq": 1,
            "messageId": "run-id-1:1",
            "__openclaw": {"id": "run-id-1:1", "seq": 1},
            "idempotencyKey": "run-id-1:user",
        },
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "hi"}],
            "timestamp": 5_000,
            "runId": "run-id-1",
            "seq": 2,
            "messageId": "run-id-1:2",
            "__openclaw": {"id": "run-id-1:2", "seq": 2},
            "provider": "acme",
            "model": "one",
        },
    ]


async def test_every_kind_of_part_is_shown(bench: Bench) -> None:
    await bench.turn(
        "main",
        Message(Role.USER, (Text("look"), Image("aGk=", "image/png")), name="ann"),
        Message(
            Role.ASSISTANT,
            (
                Reasoning("hm"),
                Reasoning("", "s"),
                ToolCall("c1", "weather", '{"in": "Ulm"}'),
                ToolCall("c2", "x", "{"),
            ),
        ),
        Message(Role.TOOL, (Text("rain"),), name="weather", tool_call_id="c1"),
    )
    asked, called, result = (await bench.ask("chat.history", sessionKey="main"))["messages"]
    assert asked["content"][1] == {"type": "image", "mimeType": "image/png", "data": "aGk="}
    assert asked["name"] == "ann"
    assert called["content"] == [
        {"type": "thinking", "thinking": "hm"},
        {"type": "toolCall", "id": "c1", "name": "weather", "arguments": {"in": "Ulm"}},
        {"type": "toolCall", "id": "c2", "name": "x", "arguments": "{"},
    ]
    assert (result["role"], result["toolCallId"], result["toolName"]) == (
        "toolResult",
        "c1",
        "weather",
    )


async def test_of_three_hundred_messages_the_newest_two_hundred_come(bench: Bench) -> None:
    await bench.turn("main", *conversation(300))
    told = await bench.ask("chat.history", sessionKey="main")
    assert texts(told) == [f"m{i}" for i in range(100, 300)]
    assert told["nextCursor"] == 101


@pytest.mark.parametrize("cursor", [101, "101"])
async def test_the_cursor_of_an_answer_asks_for_what_came_before(
    bench: Bench, cursor: int | str
) -> None:
    await bench.turn("main", *conversation(300))
    told = await bench.ask("chat.history", sessionKey="main", cursor=cursor, limit=1_000)
    assert texts(told) == [f"m{i}" for i in range(100)]
    assert "nextCursor" not in told


async def test_a_message_id_is_the_number_of_the_last_message_that_is_wanted(bench: Bench) -> None:
    await bench.turn("main", *conversation(10))
    told = await bench.ask("chat.history", sessionKey="main", messageId="4", limit=2)
    assert [message["seq"] for message in told["messages"]] == [3, 4]


async def test_two_ways_to_say_where_a_page_ends_are_one_too_many(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match="Pass only one of cursor, messageId"):
        await bench.ask("chat.history", sessionKey="main", cursor=5, messageId="4")


async def test_the_oldest_are_left_out_until_the_rest_fits(bench: Bench) -> None:
    long = [user(f"{i} " + "x" * 1_000_000) for i in range(8)]
    await bench.turn("main", *long)
    told = await bench.ask("chat.history", sessionKey="main")
    assert len(orjson.dumps(told["messages"])) <= MAX_BYTES
    assert [text[0] for text in texts(told)] == ["2", "3", "4", "5", "6", "7"]


async def test_fewer_bytes_can_be_asked_for(bench: Bench) -> None:
    await bench.turn("main", *conversation(300))
    told = await bench.ask("chat.history", sessionKey="main", maxBytes=4_096)
    assert 0 < len(told["messages"]) < 200
    assert len(orjson.dumps(told["messages"])) <= 4_096


@pytest.mark.parametrize("text", ["x" * 7_000_000, '"' * 5_000_000, "ä\n" * 2_500_000])
async def test_one_message_that_is_too_long_is_cut(bench: Bench, text: str) -> None:
    await bench.turn("main", user("before"), assistant(text))
    told = await bench.ask("chat.history", sessionKey="main")
    only = told["messages"][-1]
    assert MAX_BYTES * 0.99 < len(orjson.dumps(told["messages"])) <= MAX_BYTES
    assert only["truncated"]
    assert only["content"][0]["text"].endswith(CUT)


async def test_pictures_go_before_texts_are_cut(bench: Bench) -> None:
    picture = Image("A" * 7_000_000, "image/png")
    await bench.turn("main", Message(Role.USER, (Text("look"), picture)))
    (only,) = (await bench.ask("chat.history", sessionKey="main"))["messages"]
    assert only["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image", "mimeType": "image/png", "omitted": True},
    ]


async def test_texts_can_be_cut_to_a_number_of_characters(bench: Bench) -> None:
    await bench.turn("main", user("hello"))
    told = await bench.ask("chat.history", sessionKey="main", maxChars=4)
    assert texts(told) == [f"hell{CUT}"]


async def test_lone_surrogates_are_told_as_they_are(bench: Bench) -> None:
    await bench.turn("main", user("\ud83d"))
    assert texts(await bench.ask("chat.history", sessionKey="main")) == ["\ud83d"]


async def test_an_earlier_transcript_can_be_read_by_its_id(bench: Bench) -> None:
    await bench.turn("main", user("old"))
    await bench.ask("sessions.reset", key="main")
    told = await bench.ask("chat.history", sessionKey="main", sessionId="s-main")
    assert (texts(told), told["sessionId"]) == (["old"], "s-main")
    assert texts(await bench.ask("chat.history", sessionKey="main")) == []


@pytest.mark.parametrize("session_id", ["../x", "", ".x", "a/b", "a\n", "x" * 129])
async def test_an_id_that_could_be_a_path_is_refused(bench: Bench, session_id: str) -> None:
    with pytest.raises(ValidationError):
        await bench.ask("chat.history", sessionKey="main", sessionId=session_id)


async def test_the_settings_that_a_client_shows_are_told(bench: Bench) -> None:
    await bench.ask("sessions.patch", key="main", thinkingLevel="high", verboseLevel="on")
    told = await bench.ask("chat.history", sessionKey="main")
    assert (told["thinkingLevel"], told["verboseLevel"]) == ("high", "on")


async def test_who_asks_for_history_is_told_what_happens_and_what_runs(bench: Bench) -> None:
    gate = Gate()
    bench.runner.script("id-1", gate, answered())
    request = RunRequest(messages=(user("hello"),), session_key="agent:main:main")
    run = await bench.gateway.submit(OPERATOR, request)
    await gate.reached.wait()
    told = await bench.ask("chat.history", sessionKey="main")
    info = {"hasActiveRun": True, "activeRunIds": [run.id], "status": "running"}
    assert told["sessionInfo"] == info
    gate.opened.set()
    await bench.log.end_of(run.id)
    await bench.hub.broadcast_done(run.id)
    assert {event["event"] for event in await events(bench.operator)} == {"agent", "chat"}
