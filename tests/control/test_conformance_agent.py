"""`agent` and what is told of its runs, row by row of the family's conformance list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.app.serving import SECRET, config, serving
from tests.control.client import Peer, Refused, connected
from tests.control.conftest import Enter
from tests.e2e.process import GatewayProcess
from tests.fakes.behaviours import answer, fail, hang, hang_after
from tests.fakes.provider import FakeProvider

ASKED = {"message": "hi", "agentId": "main", "idempotencyKey": "K"}


def asked(**changes: Any) -> dict[str, Any]:
    return {"message": "hi", "idempotencyKey": "K", **changes}


async def turn(peer: Peer, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both answers of an `agent`."""
    request = peer.send("agent", params)
    return await peer.answer(request), await peer.answer(request)


@asynccontextmanager
async def two_agents(home: Path, provider: FakeProvider) -> AsyncIterator[Peer]:
    agents = {
        "defaults": {"model": {"primary": "fake/m"}},
        "list": [{"id": "main"}, {"id": "ops"}],
    }
    content = config(provider.base_url, agents=agents)
    async with serving(home, content) as served, connected(served.client, SECRET) as peer:
        yield peer


async def test_a_session_is_named_by_its_key_and_keeps_its_id(peer: Peer) -> None:
    key = "agent:main:subagent:abc"
    made = await peer.call("sessions.create", {"key": key})

    accepted, final = await turn(peer, asked(sessionKey=key))

    assert accepted["sessionKey"] == key
    assert final["result"]["meta"]["agentMeta"]["sessionKey"] == key
    row = (await peer.call("sessions.describe", {"key": key}))["session"]
    assert row["sessionId"] == made["sessionId"]


async def test_a_session_is_named_by_its_id(peer: Peer) -> None:
    made = await peer.call("sessions.create", {"key": "talk"})

    accepted, _ = await turn(peer, asked(sessionId=made["sessionId"]))

    assert accepted["sessionKey"] == "agent:main:talk"


async def test_an_agent_alone_means_its_main_session(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with two_agents(tmp_path, provider) as peer:
        accepted, final = await turn(peer, asked(agentId="ops"))
        assert accepted["sessionKey"] == "agent:ops:main"
        assert accepted["agentId"] == "ops"
        assert final["status"] == "ok"
        mismatch = asked(agentId="ops", sessionKey="agent:main:main", idempotencyKey="L")
        with pytest.raises(Refused, match="does not match session key agent") as refused:
            await peer.call("agent", mismatch)
        assert refused.value.error["code"] == "INVALID_REQUEST"
        plain, _ = await turn(peer, asked(idempotencyKey="M"))
        assert plain["sessionKey"] == "agent:main:main"


async def test_every_spelling_of_a_session_is_one_session(peer: Peer) -> None:
    spellings = ("main", "agent:main:main", "AGENT:Main:main")
    for number, key in enumerate(spellings):
        accepted, _ = await turn(peer, asked(sessionKey=key, idempotencyKey=f"K{number}"))
        assert accepted["sessionKey"] == "agent:main:main"

    (row,) = (await peer.call("sessions.list"))["sessions"]
    assert row["messageCount"] == 2 * len(spellings)


@pytest.mark.parametrize("channel", ["last", "webchat"])
async def test_the_channels_that_mean_this_very_client_are_taken(peer: Peer, channel: str) -> None:
    _, final = await turn(peer, asked(channel=channel, deliver=False))
    assert final["status"] == "ok"


async def test_the_answer_to_a_repeated_request_is_the_same_from_anywhere(
    enter: Enter, peer: Peer, provider: FakeProvider
) -> None:
    accepted, first = await turn(peer, ASKED)
    assert (accepted["status"], first["status"], first["runId"]) == ("accepted", "ok", "K")

    again = await peer.call("agent", ASKED)
    async with enter(protocol=3) as other:
        elsewhere = await other.call("agent", ASKED)

    assert again == first
    assert elsewhere == first
    assert len(provider.requests) == 1


async def test_a_request_repeated_while_it_runs_waits_for_the_same_run(
    enter: Enter, peer: Peer, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    request = peer.send("agent", ASKED)
    await peer.answer(request)
    await peer.event("agent", stream="assistant")
    async with enter() as other:
        again = other.send("agent", ASKED)
        assert (await other.answer(again))["status"] == "accepted"
        gate.set()
        assert await other.answer(again) == await peer.answer(request)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("violent", [True, pytest.param(False, marks=pytest.mark.e2e)])
async def test_the_answer_to_a_repeated_request_outlives_the_gateway(
    tmp_path: Path, provider: FakeProvider, violent: bool
) -> None:
    content = config(provider.base_url)
    gateway = GatewayProcess(tmp_path, json.dumps(content))
    async with gateway:
        async with aiohttp.ClientSession(gateway.url) as http, connected(http, SECRET) as peer:
            _, first = await turn(peer, ASKED)
            await turn(peer, {**ASKED, "idempotencyKey": "L", "message": "two"})
        await asyncio.to_thread(gateway.kill if violent else gateway.stop)
    async with (
        gateway,
        aiohttp.ClientSession(gateway.url) as http,
        connected(http, SECRET) as peer,
    ):
        assert await peer.call("agent", ASKED) == first
        assert (await peer.call("chat.history", {"sessionKey": "main"}))["messages"][0:1]
        _, next_one = await turn(peer, {**ASKED, "idempotencyKey": "M", "message": "three"})
        assert next_one["status"] == "ok"
        history = await peer.call("chat.history", {"sessionKey": "main"})
        assert [message["runId"] for message in history["messages"]] == [
            "K",
            "K",
            "L",
            "L",
            "M",
            "M",
        ]
    assert len(provider.requests) == 3


async def test_an_aborted_request_is_answered_and_repeated_the_same(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    request = peer.send("agent", ASKED)
    await peer.answer(request)
    await peer.event("agent", stream="assistant")
    await peer.call("chat.abort", {"sessionKey": "main", "runId": "K"})

    final = await peer.answer(request)

    assert (final["runId"], final["status"]) == ("K", "aborted")
    assert final["result"]["payloads"] == [{"text": "Hel"}]
    assert await peer.call("agent", ASKED) == final


async def test_runs_of_agent_are_told_as_a_chat_as_well(peer: Peer) -> None:
    await turn(peer, ASKED)

    final = (await peer.event("chat", state="final"))["payload"]
    assert (final["runId"], final["sessionKey"]) == ("K", "agent:main:main")
    assert final["message"]["content"][0]["text"] == "Hello!"


async def test_agent_events_name_their_session_and_are_numbered_twice(peer: Peer) -> None:
    await turn(peer, ASKED)

    end = await peer.event("agent", data__phase="end")
    payload = end["payload"]
    assert (payload["runId"], payload["stream"]) == ("K", "lifecycle")
    assert (payload["sessionKey"], payload["agentId"]) == ("agent:main:main", "main")
    assert isinstance(payload["ts"], int)
    assert end["seq"] >= payload["seq"] >= 1


async def test_a_picture_goes_to_the_model_with_the_message(
    peer: Peer, provider: FakeProvider
) -> None:
    pixel = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5"
        "ErkJggg=="
    )
    await turn(peer, asked(attachments=[{"mimeType": "image/png", "content": pixel}]))

    content = provider.requests[0].json["messages"][-1]["content"]
    assert content[-1] == {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{pixel}"},
    }


async def test_thinking_and_the_extra_prompt_reach_the_model(
    peer: Peer, provider: FakeProvider
) -> None:
    _, final = await turn(peer, asked(thinking="high", extraSystemPrompt="Be brief."))

    assert final["status"] == "ok"
    sent = provider.requests[0].json["messages"]
    assert "Be brief." in sent[0]["content"]
    assert sent[-1] == {"role": "user", "content": "hi"}


async def test_wait_answers_when_the_run_ends_later(peer: Peer, provider: FakeProvider) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    await peer.answer(peer.send("agent", ASKED))
    await peer.event("agent", stream="assistant")
    waiting = peer.send("agent.wait", {"runId": "K", "timeoutMs": 20_000})
    await peer.call("health")
    gate.set()

    ended = await peer.answer(waiting)

    assert (ended["runId"], ended["status"]) == ("K", "ok")
    assert ended["startedAt"] <= ended["endedAt"]
    assert await peer.call("agent.wait", {"runId": "K", "timeoutMs": 20_000}) == ended


async def test_wait_gives_up_after_the_time_it_was_given(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    await peer.answer(peer.send("agent", ASKED))
    await peer.event("agent", stream="assistant")

    told = await peer.call("agent.wait", {"runId": "K", "timeoutMs": 30})

    assert (told["runId"], told["status"]) == ("K", "timeout")
    assert isinstance(told["startedAt"], int)
    assert "endedAt" not in told
    await peer.call("runs.abort", {"runId": "K"})


async def test_wait_tells_why_a_run_failed(peer: Peer, provider: FakeProvider) -> None:
    provider.will(fail(400, {"error": {"message": "boom"}}))
    request = peer.send("agent", ASKED)
    await peer.answer(request)
    with pytest.raises(Refused) as refused:
        await peer.answer(request)

    told = await peer.call("agent.wait", {"runId": "K"})

    assert told["status"] == "error"
    assert told["error"] == refused.value.error["message"]
    assert "boom" in told["error"]


async def test_a_time_limit_of_nought_sets_none(peer: Peer) -> None:
    _, final = await turn(peer, asked(timeout=0))
    assert final["status"] == "ok"


async def test_a_client_that_leaves_does_not_end_its_run(
    enter: Enter, peer: Peer, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    async with enter() as other:
        await other.answer(other.send("agent", ASKED))
        await other.event("agent", stream="assistant")
    waiting = peer.send("agent.wait", {"runId": "K"})
    gate.set()
    assert (await peer.answer(waiting))["status"] == "ok"
    assert (await peer.call("agent", ASKED))["result"]["payloads"] == [{"text": "Hello!"}]


async def test_a_queued_run_is_stopped_alone(peer: Peer, provider: FakeProvider) -> None:
    provider.will(hang_after("Hel"), hang())
    await peer.answer(peer.send("agent", ASKED))
    await peer.event("agent", stream="assistant")
    waits = peer.send("agent", asked(idempotencyKey="L", message="two"))
    await peer.answer(waits)

    stopped = await peer.call("chat.abort", {"sessionKey": "main", "runId": "L"})

    assert stopped["runIds"] == ["L"]
    assert (await peer.answer(waits))["status"] == "aborted"
    assert (await peer.call("runs.get", {"runId": "K"}))["status"] == "running"
    assert (await peer.call("runs.abort", {"runId": "K"}))["aborted"] is True
