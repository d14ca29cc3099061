"""Runs over the control protocol: by whichever transport, seen, followed, waited for, stopped."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from opensoul.adapters.transports.control.connection import dispatcher
from tests.app.serving import Served
from tests.control.client import Peer, Refused
from tests.control.conftest import Enter
from tests.fakes.behaviours import answer, hang, hang_after
from tests.fakes.provider import FakeProvider

ASKED = {"message": "hi", "agentId": "main", "idempotencyKey": "K"}
PATIENCE = 10.0


async def test_agent_is_accepted_at_once_and_answered_when_done(peer: Peer) -> None:
    request = peer.send("agent", ASKED)

    accepted, final = await peer.answer(request), await peer.answer(request)

    assert accepted["status"] == "accepted"
    assert accepted["runId"] == final["runId"] == "K"
    assert accepted["sessionKey"] == "agent:main:main"
    assert accepted["agentId"] == "main"
    assert final["status"] == "ok"
    assert final["summary"] == "completed"
    assert final["result"]["payloads"] == [{"text": "Hello!"}]
    assert final["result"]["meta"]["agentMeta"]["model"] == "m"


async def test_events_of_a_run_come_between_its_two_answers_numbered_without_a_gap(
    peer: Peer,
) -> None:
    request = peer.send("agent", ASKED)
    await peer.answer(request)
    await peer.answer(request)

    events = [frame for frame in peer.events if frame["event"] == "agent"]
    told = [frame["payload"] for frame in events]
    assert [payload["seq"] for payload in told] == [1, 2, 3, 4]
    assert [payload["stream"] for payload in told] == [
        "lifecycle",
        "assistant",
        "assistant",
        "lifecycle",
    ]
    assert [p["data"].get("phase") for p in told] == ["start", None, None, "end"]
    assert told[2]["data"] == {"text": "Hello!", "delta": "lo!"}
    numbers = [frame["seq"] for frame in peer.events if "seq" in frame]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_a_chat_ends_with_all_its_text_and_its_deltas_join_to_it(peer: Peer) -> None:
    await peer.call("chat.send", {"sessionKey": "main", "message": "hi", "idempotencyKey": "K"})

    deltas = []
    while True:
        payload = (await peer.event("chat"))["payload"]
        if payload["state"] != "delta":
            break
        deltas.append(payload["deltaText"])

    assert "".join(deltas) == "Hello!"
    assert payload["state"] == "final"
    assert payload["sessionKey"] == "agent:main:main"
    assert payload["message"]["content"] == [{"type": "text", "text": "Hello!"}]


async def test_the_same_key_gets_the_same_run_also_from_another_connection(
    enter: Enter, peer: Peer, provider: FakeProvider
) -> None:
    request = peer.send("agent", ASKED)
    await peer.answer(request)
    first = await peer.answer(request)

    again = await peer.call("agent", ASKED)
    async with enter() as other:
        elsewhere = await other.call("agent", ASKED)

    assert first == again == elsewhere
    assert len(provider.requests) == 1


async def test_one_key_does_not_stand_for_two_requests(peer: Peer) -> None:
    request = peer.send("agent", ASKED)
    await peer.answer(request)
    await peer.answer(request)

    with pytest.raises(Refused, match="another request"):
        await peer.call("agent", {**ASKED, "message": "something else"})


async def test_requests_with_one_key_at_the_same_time_begin_one_run(
    peer: Peer, provider: FakeProvider
) -> None:
    requests = [peer.send("agent", ASKED) for _ in range(20)]

    for request in requests:
        while (await peer.answer(request))["status"] == "accepted":
            pass

    assert len(provider.requests) == 1


async def test_chat_send_with_a_key_in_use_says_so(peer: Peer, provider: FakeProvider) -> None:
    provider.will(hang_after("Hel"))
    asked = {"sessionKey": "main", "message": "hi", "idempotencyKey": "K"}
    assert (await peer.call("chat.send", asked)) == {"runId": "K", "status": "started"}
    await peer.event("chat", state="delta")

    assert (await peer.call("chat.send", asked)) == {"runId": "K", "status": "in_flight"}
    assert (await peer.call("chat.abort", {"sessionKey": "main", "runId": "K"})) == {
        "ok": True,
        "aborted": True,
        "runIds": ["K"],
    }
    aborted = await peer.event("chat", state="aborted")
    assert aborted["payload"]["runId"] == "K"
    assert (await peer.call("chat.send", asked))["status"] == "aborted"


async def test_a_run_started_by_http_is_listed_followed_and_stopped(
    served: Served, peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    async with served.ask(user="alice", stream=True) as response:
        run_id = response.headers["x-opensoul-run-id"]
        listed = await peer.call("runs.list", {"status": "running"})
        assert [run["runId"] for run in listed["runs"]] == [run_id]

        followed = await peer.call("runs.follow", {"runId": run_id, "afterSeq": 0})
        assert followed["runId"] == run_id
        first = await peer.event("agent", stream="assistant")
        assert first["payload"]["data"] == {"delta": "Hel"}
        request = await provider.arrival()

        assert await peer.call("runs.abort", {"runId": run_id}) == {
            "ok": True,
            "aborted": True,
            "runIds": [run_id],
        }
        await asyncio.wait_for(request.disconnected.wait(), 1.0)
        last = await peer.event("agent", stream="lifecycle")
        assert last["payload"]["data"]["aborted"] is True
        text = (await response.content.read()).decode()
    assert "run_aborted" in text
    assert "[DONE]" not in text


async def test_a_follower_gets_what_it_has_not_seen_and_no_more(peer: Peer) -> None:
    request = peer.send("agent", ASKED)
    await peer.answer(request)
    await peer.answer(request)
    peer.events.clear()

    await peer.call("runs.follow", {"runId": "K", "afterSeq": 2})

    assert (await peer.event("agent"))["payload"]["seq"] == 3
    assert (await peer.event("agent"))["payload"]["seq"] == 4
    await peer.call("health")
    assert not [frame for frame in peer.events if frame["event"] == "agent"]


async def test_wait_tells_how_a_run_ended(peer: Peer, provider: FakeProvider) -> None:
    provider.will(hang())
    request = peer.send("agent", ASKED)
    await peer.answer(request)
    await peer.event("agent", stream="lifecycle")

    assert (await peer.call("agent.wait", {"runId": "K", "timeoutMs": 0}))["status"] == "timeout"
    assert (await peer.call("agent.wait", {"runId": "unknown"}))["status"] == "timeout"
    waiting = peer.send("agent.wait", {"runId": "K"})
    await peer.call("runs.abort", {"runId": "K"})
    ended = await peer.answer(waiting)

    assert ended["status"] == "error"
    assert ended["stopReason"] == "aborted"
    assert ended["endedAt"] >= ended["startedAt"]
    request = peer.send("agent", {**ASKED, "idempotencyKey": "L"})
    await peer.answer(request)
    await peer.answer(request)
    assert (await peer.call("agent.wait", {"runId": "L"}))["status"] == "ok"


async def test_a_run_that_waits_in_its_session_is_said_to_be_pending(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    await peer.answer(peer.send("agent", ASKED))
    await peer.event("agent", stream="assistant")
    waiting = peer.send("agent", {**ASKED, "idempotencyKey": "L"})
    await peer.answer(waiting)

    told = await peer.call("agent.wait", {"runId": "L", "timeoutMs": 0})
    assert (told["status"], told["timeoutPhase"]) == ("pending", "queue")

    stopped = await peer.call("chat.abort", {"sessionKey": "main"})
    assert stopped["runIds"] == ["K", "L"]
    assert (await peer.answer(waiting))["status"] == "aborted"


async def test_abort_of_another_session_is_refused(peer: Peer, provider: FakeProvider) -> None:
    provider.will(hang_after("Hel"))
    await peer.answer(peer.send("agent", ASKED))
    await peer.event("agent", stream="assistant")

    with pytest.raises(Refused, match="runId does not match sessionKey"):
        await peer.call("chat.abort", {"sessionKey": "other", "runId": "K"})

    assert (await peer.call("chat.abort", {"sessionKey": "main", "runId": "K"}))["aborted"]
    await peer.event("chat", state="aborted")
    assert not (await peer.call("chat.abort", {"sessionKey": "main", "runId": "K"}))["aborted"]
    assert not (await peer.call("chat.abort", {"sessionKey": "main", "runId": "no"}))["aborted"]


async def test_slash_stop_stops_and_plain_words_are_said(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"), answer("fine"))
    await peer.answer(peer.send("agent", ASKED))
    await peer.event("agent", stream="assistant")

    stop = {"sessionKey": "main", "message": " /STOP ", "idempotencyKey": "S"}
    assert (await peer.call("chat.send", stop))["runIds"] == ["K"]
    word = {"sessionKey": "main", "message": "stop", "idempotencyKey": "W"}
    assert (await peer.call("chat.send", word))["status"] == "started"
    final = await peer.event("chat", state="final", runId="W")
    assert final["payload"]["message"]["content"][0]["text"] == "fine"


async def test_a_failed_run_is_answered_with_an_error_and_a_payload(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang())
    request = peer.send("agent", {**ASKED, "timeout": 0.05})
    await peer.answer(request)

    with pytest.raises(Refused, match=r"longer than the 0\.05 s") as refused:
        await peer.answer(request)

    assert refused.value.error["code"] == "UNAVAILABLE"
    assert refused.value.payload["status"] == "error"
    assert refused.value.payload["summary"] == refused.value.error["message"]


async def test_nobody_is_told_of_a_session_that_it_did_not_ask_for(
    enter: Enter, peer: Peer, served: Served
) -> None:
    async with enter() as curious:
        await curious.call("sessions.messages.subscribe", {"key": "agent:main:openai-user:bob"})
        await served.text(user="bob")
        await served.text(user="alice")
        told = await curious.event("chat", state="final")
        await curious.call("health")
        rest = [frame for frame in curious.events if frame["event"] in ("agent", "chat")]
    assert told["payload"]["sessionKey"] == "agent:main:openai-user:bob"
    assert rest == []
    await peer.call("health")
    assert not [frame for frame in peer.events if frame["event"] in ("agent", "chat")]


async def test_a_picture_reaches_the_model(peer: Peer, provider: FakeProvider) -> None:
    pixel = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5"
        "ErkJggg=="
    )
    sent = {
        "sessionKey": "main",
        "message": "",
        "idempotencyKey": "K",
        "attachments": [{"type": "image", "content": f"data:image/png;base64,{pixel}"}],
    }

    await peer.call("chat.send", sent)
    await peer.event("chat", state="final")

    asked = json.loads(provider.requests[0].body)["messages"][-1]
    assert asked["content"] == [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}}
    ]


async def test_an_attachment_of_five_megabytes_fits(peer: Peer, provider: FakeProvider) -> None:
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(4_999_992)).decode()
    sent = {
        "sessionKey": "main",
        "message": "look",
        "idempotencyKey": "K",
        "attachments": [{"content": picture}],
    }

    await peer.call("chat.send", sent)
    await peer.event("chat", state="final")

    assert picture in provider.requests[0].body.decode()
    too_much = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(4_999_993)).decode()
    larger = {**sent, "idempotencyKey": "L", "attachments": [{"content": too_much}]}
    with pytest.raises(Refused, match="exceeds size limit"):
        await peer.call("chat.send", larger)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"agentId": "nobody"}, "nobody"),
        ({"sessionKey": "agent:other:main"}, "does not match session key agent"),
        ({"replyChannel": "pigeon"}, "unknown channel"),
        ({"channel": "sms"}, "unknown channel"),
        ({"idempotencyKey": ""}, "idempotencyKey"),
        ({"unknown": 1}, "unexpected property 'unknown'"),
        ({"thinking": "banana"}, "invalid thinkingLevel"),
        ({"model": "fake/m"}, "sessions.patch"),
        ({"sessionId": "../../etc/passwd"}, "No session found"),
    ],
)
async def test_what_cannot_be_done_is_refused_before_anything_happens(
    peer: Peer, provider: FakeProvider, changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(Refused, match=problem) as refused:
        await peer.call("agent", {**ASKED, **changes})

    assert refused.value.error["code"] == "INVALID_REQUEST"
    assert provider.requests == []


async def test_answers_to_one_connection_do_not_wait_for_one_another(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang())
    await peer.answer(peer.send("agent", ASKED))

    assert (await peer.call("health"))["ok"] is True
    assert (await peer.call("runs.get", {"runId": "K"}))["status"] in ("queued", "running")
    await peer.call("runs.abort", {"runId": "K"})


@pytest.mark.parametrize(("limit", "value"), [("_MAX_REQUESTS", 3), ("_MAX_REQUEST_BYTES", 420)])
async def test_what_one_connection_has_in_work_is_bounded_and_counted_down(
    enter: Enter,
    peer: Peer,
    provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
) -> None:
    monkeypatch.setattr(dispatcher, limit, value)
    provider.default = hang_after("Hel")
    asked = {**ASKED, "message": "x"}
    waiting = [peer.send("agent", {**asked, "idempotencyKey": f"K{n}"}) for n in range(3)]
    for request in waiting:
        await peer.answer(request)

    with pytest.raises(Refused, match="concurrent requests") as refused:
        await peer.call("agent", {**asked, "idempotencyKey": "one too many"})
    assert refused.value.error["retryable"] is True

    async with enter() as other:
        await other.call("chat.abort", {"sessionKey": "main"})
    for request in waiting:
        assert (await peer.answer(request))["status"] == "aborted"
    assert (await peer.call("health"))["ok"] is True
