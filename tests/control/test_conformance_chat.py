"""Talking in sessions, row by row of the family's conformance list, with the answers of ours."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.app.serving import SECRET, config, serving
from tests.control.client import Peer, Refused, connected
from tests.control.conftest import Enter
from tests.fakes.behaviours import answer, fail, hang, hang_after
from tests.fakes.provider import FakeProvider

MAIN = "agent:main:main"


def said(text: str, key: str = "K", session: str = "main") -> dict[str, Any]:
    return {"sessionKey": session, "message": text, "idempotencyKey": key}


async def inject(peer: Peer, *texts: str, session: str = "main") -> None:
    """Messages in a session that is there already, without a run for each."""
    for text in texts:
        await peer.call("chat.inject", {"sessionKey": session, "message": text})


async def begun(peer: Peer, session: str = "main") -> None:
    """A session that is there, without a message."""
    await peer.call("sessions.create", {"key": session})


def texts(history: dict[str, Any]) -> list[str]:
    return [message["content"][0]["text"] for message in history["messages"]]


async def test_a_web_chat_says_something_and_its_run_is_named_by_its_key(enter: Enter) -> None:
    client = {"id": "webchat", "version": "1", "platform": "any", "mode": "ui"}
    async with enter(client=client) as peer:
        sent = await peer.call("chat.send", said("hi", "my-own-key"))
        assert sent == {"runId": "my-own-key", "status": "started"}
        final = await peer.event("chat", state="final")
        assert final["payload"]["runId"] == "my-own-key"
        assert final["payload"]["sessionKey"] == MAIN
        assert (await peer.call("runs.get", {"runId": "my-own-key"}))["status"] == "finished"


async def test_a_key_of_an_agent_is_taken_as_it_is(peer: Peer) -> None:
    await peer.call("chat.send", said("hi", session="agent:main:subagent:abc"))

    final = await peer.event("chat", state="final")
    assert final["payload"]["sessionKey"] == "agent:main:subagent:abc"


async def test_after_runs_the_history_has_both_sides_in_order_with_times(peer: Peer) -> None:
    for number in ("one", "two"):
        await peer.call("chat.send", said(number, key=number))
        await peer.event("chat", state="final", runId=number)

    history = await peer.call("chat.history", {"sessionKey": "main"})

    assert history["sessionKey"] == MAIN
    info = history["sessionInfo"]
    assert (info["hasActiveRun"], info["activeRunIds"], info["derivedTitle"]) == (False, [], "one")
    messages = history["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    assert texts(history) == ["one", "Hello!", "two", "Hello!"]
    assert [message["runId"] for message in messages] == ["one", "one", "two", "two"]
    times = [message["timestamp"] for message in messages]
    assert times == sorted(times)
    assert all(isinstance(time, int) and time > 1_600_000_000_000 for time in times)


async def test_of_three_hundred_messages_the_newest_two_hundred_are_shown(peer: Peer) -> None:
    await begun(peer)
    await inject(peer, *(f"m{number}" for number in range(300)))

    history = await peer.call("chat.history", {"sessionKey": "main"})

    assert texts(history) == [f"m{number}" for number in range(100, 300)]
    older = {"sessionKey": "main", "cursor": history["nextCursor"]}
    assert texts(await peer.call("chat.history", older)) == [f"m{number}" for number in range(100)]


async def test_what_does_not_fit_is_left_out_from_the_oldest_on(peer: Peer) -> None:
    await begun(peer)
    await inject(peer, *(f"{number}" + "x" * 1_000_000 for number in range(8)))

    history = await peer.call("chat.history", {"sessionKey": "main"})

    assert [text[0] for text in texts(history)] == ["2", "3", "4", "5", "6", "7"]
    assert len(json.dumps(history["messages"])) <= 6 * 1024 * 1024
    asked = {"sessionKey": "main", "maxBytes": 2_100_000}
    fewer = (await peer.call("chat.history", asked))["messages"]
    assert len(fewer) == 2
    assert len(json.dumps(fewer)) <= 2_100_000


async def test_an_aborted_run_tells_no_more_and_leaves_its_session_usable(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(answer("Hel", *["more"] * 2_000, delay=0.01))
    await peer.call("chat.send", said("hi"))
    await peer.event("chat", state="delta")
    assert (await peer.call("chat.abort", {"sessionKey": MAIN, "runId": "K"}))["aborted"] is True
    aborted = (await peer.event("chat", state="aborted"))["payload"]
    assert (aborted["runId"], aborted["sessionKey"]) == ("K", MAIN)
    assert aborted["stopReason"] == "rpc"

    await peer.call("chat.send", said("again", "L"))
    final = await peer.event("agent", runId="L", data__phase="end")
    assert final["payload"]["seq"] > 1
    await peer.call("health")
    assert not [f for f in peer.events if (f["payload"] or {}).get("runId") == "K"]
    history = await peer.call("chat.history", {"sessionKey": "main"})
    assert texts(history) == ["again", "Hello!"]


async def test_a_run_is_aborted_before_its_model_has_answered(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang())
    await peer.call("chat.send", said("hi"))

    assert (await peer.call("chat.abort", {"sessionKey": "main"})) == {
        "ok": True,
        "aborted": True,
        "runIds": ["K"],
    }
    aborted = await peer.event("chat", state="aborted")
    assert aborted["payload"]["runId"] == "K"
    assert "message" not in aborted["payload"]


async def test_slash_stop_tells_of_the_abort_and_asks_no_model(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    await peer.call("chat.send", said("hi"))
    await peer.event("chat", state="delta")

    stopped = await peer.call("chat.send", said("/stop", "S"))

    assert stopped == {"ok": True, "aborted": True, "runIds": ["K"]}
    assert (await peer.event("chat", state="aborted"))["payload"]["runId"] == "K"
    assert len(provider.requests) == 1
    assert (await peer.call("chat.send", said("/stop", "T")))["aborted"] is False


async def test_a_key_is_started_then_in_flight_then_ok(peer: Peer, provider: FakeProvider) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    told = [(await peer.call("chat.send", said("hi")))["status"]]
    await peer.event("chat", state="delta")
    told.append((await peer.call("chat.send", said("hi")))["status"])
    gate.set()
    await peer.event("chat", state="final")
    told.append((await peer.call("chat.send", said("hi")))["status"])

    assert told == ["started", "in_flight", "ok"]
    assert len(provider.requests) == 1


async def test_a_failed_run_is_told_as_an_event_and_to_who_asks_again(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(fail(400, {"error": {"message": "boom"}}))
    await peer.call("chat.send", said("hi"))

    told = (await peer.event("chat", state="error"))["payload"]
    assert told["errorMessage"]
    assert told["errorKind"]
    with pytest.raises(Refused) as refused:
        await peer.call("chat.send", said("hi"))
    assert refused.value.error["code"] == "UNAVAILABLE"
    assert refused.value.payload["status"] == "error"
    assert refused.value.error["message"] == told["errorMessage"]
    assert (await peer.call("chat.send", said("again", "L")))["status"] == "started"
    await peer.event("chat", state="final", runId="L")


async def test_abort_finds_the_run_without_its_id_and_nothing_where_none_runs(
    peer: Peer, provider: FakeProvider
) -> None:
    nothing = {"ok": True, "aborted": False, "runIds": []}
    assert await peer.call("chat.abort", {"sessionKey": "main"}) == nothing
    assert await peer.call("chat.abort", {"sessionKey": "main", "runId": "missing"}) == nothing
    provider.will(hang_after("Hel"))
    await peer.call("chat.send", said("hi"))
    await peer.event("chat", state="delta")

    with pytest.raises(Refused, match="runId does not match sessionKey") as refused:
        await peer.call("chat.abort", {"sessionKey": "other", "runId": "K"})
    assert refused.value.error["code"] == "INVALID_REQUEST"

    assert (await peer.call("chat.abort", {"sessionKey": "main"}))["runIds"] == ["K"]
    await peer.event("chat", state="aborted")
    finished = {"sessionKey": "main", "runId": "K"}
    assert await peer.call("chat.abort", finished) == nothing


async def test_two_runs_end_in_order_each_under_its_own_id(
    peer: Peer, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("fir", "st", gate=gate), answer("second"))
    await peer.call("chat.send", said("one", "first"))
    await peer.call("chat.send", said("two", "second"))
    gate.set()

    finals = [(await peer.event("chat", state="final"))["payload"] for _ in range(2)]

    assert [final["runId"] for final in finals] == ["first", "second"]
    spoken = [final["message"]["content"][0]["text"] for final in finals]
    assert spoken == ["first", "second"]


async def test_runs_of_two_sessions_do_not_wait_for_one_another(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"), answer("quick"))
    await peer.call("chat.send", said("one", "slow", "one"))
    await peer.event("chat", state="delta")
    await peer.call("chat.send", said("two", "quick", "two"))

    assert (await peer.event("chat", state="final"))["payload"]["runId"] == "quick"
    assert (await peer.call("chat.abort", {"sessionKey": "one"}))["aborted"] is True


async def test_a_delta_carries_what_is_new_and_all_the_text_so_far(
    peer: Peer, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("a", " b", gate=gate))
    await peer.call("chat.send", said("hi"))

    first = (await peer.event("chat", state="delta"))["payload"]
    gate.set()
    second = (await peer.event("chat"))["payload"]

    assert (first["deltaText"], second["deltaText"]) == ("a", " b")
    assert second["message"]["content"] == [{"type": "text", "text": "a b"}]
    assert second["message"]["role"] == "assistant"
    assert second["seq"] > first["seq"]
    assert (await peer.event("chat"))["payload"]["stopReason"] == "stop"


@pytest.mark.parametrize("text", ["", "  \n"])
async def test_nothing_said_is_refused(peer: Peer, provider: FakeProvider, text: str) -> None:
    with pytest.raises(Refused, match="message or attachment required"):
        await peer.call("chat.send", said(text))
    assert provider.requests == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("%%% no base64 %%%", "base64"),
        (7, "content"),
    ],
)
async def test_an_attachment_that_is_none_is_refused(
    peer: Peer, provider: FakeProvider, content: object, problem: str
) -> None:
    with pytest.raises(Refused, match=problem):
        await peer.call("chat.send", {**said("hi"), "attachments": [{"content": content}]})
    assert provider.requests == []


@pytest.mark.parametrize(
    ("rule", "session"),
    [
        ({"channel": "discord", "chatType": "group"}, "discord:group:dev"),
        ({"keyPrefix": "cron:"}, "cron:job-1"),
        ({"keyPrefix": "cron:"}, "agent:main:cron:job-1"),
    ],
)
async def test_a_denied_session_blocks_every_way_of_sending(
    tmp_path: Path, provider: FakeProvider, rule: dict[str, str], session: str
) -> None:
    policy = {"rules": [{"action": "deny", "match": rule}]}
    content = config(provider.base_url, session={"sendPolicy": policy})
    asked = {"message": "hi", "sessionKey": session, "idempotencyKey": "K"}
    async with serving(tmp_path, content) as served, connected(served.client, SECRET) as peer:
        for method in ("chat.send", "agent"):
            with pytest.raises(Refused, match="send blocked by session policy") as refused:
                await peer.call(method, asked)
            assert refused.value.error["code"] in ("INVALID_REQUEST", "FORBIDDEN")
        await peer.call("chat.send", said("hi", "L", "elsewhere"))
        await peer.event("chat", state="final", runId="L")
    assert len(provider.requests) == 1


async def test_a_message_that_was_put_in_is_told_and_kept(enter: Enter, peer: Peer) -> None:
    with pytest.raises(Refused, match="session not found"):
        await peer.call("chat.inject", {"sessionKey": "main", "message": "early"})
    await begun(peer)
    async with enter(scopes=["operator.read"]) as reader:
        await reader.call("chat.history", {"sessionKey": "main"})
        put = {"sessionKey": "main", "message": "By the way.", "label": "Cook"}
        assert (await peer.call("chat.inject", put))["messageId"]
        told = (await reader.event("chat"))["payload"]
    assert (told["state"], told["stopReason"]) == ("final", "injected")
    history = await peer.call("chat.history", {"sessionKey": "main"})
    assert texts(history) == ["[Cook]\n\nBy the way."]
    assert history["messages"][0]["role"] == "assistant"


@pytest.mark.parametrize("session_id", ["../../../etc/passwd", "a/b", "..", "a\\b"])
async def test_a_transcript_is_not_named_by_a_path(peer: Peer, session_id: str) -> None:
    with pytest.raises(Refused, match=r"invalid chat\.history params"):
        await peer.call("chat.history", {"sessionKey": "main", "sessionId": session_id})


async def test_a_slash_word_that_is_no_command_is_said_to_the_agent(
    peer: Peer, provider: FakeProvider
) -> None:
    await peer.call("chat.send", said("/context list"))

    assert (await peer.event("chat", state="final"))["payload"]["runId"] == "K"
    assert provider.requests[0].json["messages"][-1]["content"] == "/context list"
