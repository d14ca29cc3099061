"""Talking, in the shapes in which the family's clients of 2026.9 do it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control.client import Peer, Refused
from tests.control.conftest import Enter
from tests.fakes.behaviours import answer, fail, hang_after
from tests.fakes.provider import FakeProvider

MAIN = "agent:main:main"
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


async def send(peer: Peer, text: str, key: str, **more: Any) -> dict[str, Any]:
    """As the Control UI sends; the event that ends the run."""
    asked = {"sessionKey": MAIN, "message": text, "deliver": False, "idempotencyKey": key, **more}
    assert await peer.call("chat.send", asked) == {"runId": key, "status": "started"}
    return await ending(peer, key)


async def ending(peer: Peer, key: str) -> dict[str, Any]:
    while True:
        payload: dict[str, Any] = (await peer.event("chat", runId=key))["payload"]
        if payload["state"] != "delta":
            return payload


def text_of(payload: dict[str, Any]) -> str:
    text: str = payload["message"]["content"][0]["text"]
    return text


async def history(peer: Peer, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = await peer.call("chat.history", {"sessionKey": MAIN, **more})
    return told


async def test_an_answer_and_its_entry_in_the_history_are_one_message(peer: Peer) -> None:
    for number, key in enumerate(("one", "two"), 1):
        final = (await send(peer, "hi", key))["message"]
        stored = (await history(peer))["messages"][-1]
        assert final["__openclaw"] == stored["__openclaw"]
        assert final["messageId"] == stored["messageId"] == stored["__openclaw"]["id"]
        assert stored["__openclaw"]["seq"] == 2 * number
    messages = (await history(peer))["messages"]
    assert len({message["messageId"] for message in messages}) == 4
    senders = [message.get("idempotencyKey") for message in messages]
    assert senders == ["one:user", None, "two:user", None]


async def test_an_injected_message_has_the_id_that_its_event_tells(peer: Peer) -> None:
    await send(peer, "hi", "one")
    told = await peer.call("chat.inject", {"sessionKey": MAIN, "message": "a note"})
    event = await peer.event("chat", state="final", stopReason="injected")
    stored = (await history(peer))["messages"][-1]
    assert event["payload"]["message"]["__openclaw"] == stored["__openclaw"]
    assert stored["runId"] == told["messageId"]


async def test_a_history_can_be_read_up_to_a_message_by_its_id(peer: Peer) -> None:
    for key in ("one", "two"):
        await send(peer, key, key)
    first = (await history(peer))["messages"][0]
    around = await history(peer, messageId=first["messageId"])
    assert [message["messageId"] for message in around["messages"]] == [first["messageId"]]


async def test_a_message_can_be_read_by_its_id(peer: Peer) -> None:
    for key in ("one", "two"):
        await send(peer, key, key)
    messages = (await history(peer))["messages"]
    for message in messages:
        asked = {"sessionKey": MAIN, "messageId": message["messageId"]}
        assert await peer.call("chat.message.get", asked) == {"ok": True, "message": message}
    for nobody in ("one:4", "one:9", "9"):
        told = await peer.call("chat.message.get", {"sessionKey": MAIN, "messageId": nobody})
        assert told == {"ok": False, "unavailableReason": "not_found"}


async def test_older_messages_are_paged_to_as_the_answer_says(peer: Peer) -> None:
    for key in ("one", "two"):
        await send(peer, key, key)
    newest = await history(peer, limit=2)
    assert newest["hasMore"] is True
    older = await history(peer, limit=2, offset=newest["nextOffset"])
    assert [message["runId"] for message in older["messages"]] == ["one", "one"]
    assert older["hasMore"] is False


async def test_receipts_name_the_message_that_took_each_input(peer: Peer) -> None:
    await send(peer, "hi", "one")
    told = await history(peer, inputRunIds=["one", "never"])
    consumed = {"runId": "one", "consumedByEventId": told["messages"][0]["messageId"]}
    assert told["inputReceipts"] == [{**consumed, "state": "consumed"}]
    assert told["inputConsumptions"] == [consumed]
    assert "inputReceipts" not in await history(peer)


async def test_inputs_whose_message_is_not_stored_are_consumed_all_the_same(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"), fail(400))
    await peer.call(
        "chat.send", {"sessionKey": MAIN, "message": "long", "idempotencyKey": "aborted"}
    )
    await peer.event("chat", state="delta", runId="aborted")
    running = await history(peer, inputRunIds=["aborted"])
    assert running["inputReceipts"] == [{"runId": "aborted", "state": "pending"}]
    (pending,) = running["pendingInputs"]["items"]
    assert (pending["runId"], pending["state"], text_of(pending)) == ("aborted", "queued", "long")
    await peer.call("chat.abort", {"sessionKey": MAIN, "runId": "aborted"})
    assert (await ending(peer, "aborted"))["state"] == "aborted"
    assert (await send(peer, "bad", "failed"))["state"] == "error"
    await send(peer, "/status", "command")
    asked = ["aborted", "failed", "command"]
    told = await history(peer, inputRunIds=asked)
    assert [one["runId"] for one in told["inputReceipts"]] == asked
    assert {one["state"] for one in told["inputReceipts"]} == {"consumed"}
    assert all(one["consumedByEventId"] for one in told["inputConsumptions"])


async def test_an_input_of_another_session_is_not_received(peer: Peer) -> None:
    await send(peer, "hi", "one", sessionKey="agent:main:other")
    assert (await history(peer, inputRunIds=["one"]))["inputReceipts"] == []


async def test_a_start_answers_as_a_history_does_and_tells_what_there_is(peer: Peer) -> None:
    await send(peer, "hi", "one")
    asked = {"limit": 80, "maxBytes": 262_144, "inputRunIds": ["one"]}
    started = await peer.call("chat.startup", {"sessionKey": MAIN, **asked})
    metadata = started.pop("metadata")
    assert started == await history(peer, **asked)
    assert [model["id"] for model in metadata["models"]] == ["m"]
    assert "/status" in [alias for one in metadata["commands"] for alias in one["textAliases"]]
    assert metadata == await peer.call("chat.metadata", {"sessionKey": MAIN})
    for neither in ({}, {"sessionKey": MAIN, "shortId": "01234567"}):
        with pytest.raises(Refused, match="either sessionKey or shortId"):
            await peer.call("chat.startup", {**neither, "agentId": "main"})


async def test_a_picture_may_say_where_it_comes_from(peer: Peer, provider: FakeProvider) -> None:
    attachment = {
        "type": "image",
        "mimeType": "image/png",
        "fileName": "dot.png",
        "origin": "paste",
        "sizeBytes": 70,
        "width": 1,
        "height": 1,
        "content": PICTURE,
    }
    asked = {"attachments": [attachment], "__controlUiReconnectResume": True}
    await send(peer, "look", "one", **asked)
    parts = provider.requests[-1].json["messages"][-1]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url"]


async def test_a_terminal_begins_a_new_session_beside_its_old_one(peer: Peer) -> None:
    key = "agent:main:tui-6f803c92-8086-401a-8d57-8317ea018459"
    created = await peer.call(
        "sessions.create",
        {
            "key": key,
            "agentId": "main",
            "parentSessionKey": MAIN,
            "emitCommandHooks": True,
            "succeedsParent": False,
        },
    )
    assert (created["ok"], created["key"]) == (True, key)
    with pytest.raises(Refused):
        await peer.call("sessions.create", {"parentSessionKey": "agent:nobody:", "message": "x"})


COMMANDS = [
    ("/status", "Model: fake/m"),
    ("  /HELP ", "/compact [instructions]"),
    ("/model", "Choose with /model <provider/model>"),
    ("/model nothing/here", "nothing/here"),
    ("/think high", "Thinking: high"),
    ("/think", "Thinking: high"),
    ("/think default", "Thinking: default"),
    ("/think sideways", "invalid thinkingLevel"),
    ("/compact", "session not found"),
]


async def test_commands_are_answered_without_the_model(peer: Peer, provider: FakeProvider) -> None:
    """One after the other in one session."""
    # Before anything is set the session is not there, and there is nothing to compact.
    for number, (message, told) in enumerate([COMMANDS[-1], *COMMANDS[:-1]]):
        final = await send(peer, message, f"c{number}")
        assert told in text_of(final), message
    assert provider.requests == []
    assert (await history(peer))["messages"] == []


async def test_commands_change_the_session_and_compact_it(peer: Peer) -> None:
    for key in ("one", "two"):
        await send(peer, key, key)
    await send(peer, "/think high", "level")
    session = (await peer.call("sessions.describe", {"key": MAIN}))["session"]
    assert session["thinkingLevel"] == "high"
    assert text_of(await send(peer, "/compact", "all")).startswith("Nothing was compacted: ")


async def test_what_only_looks_like_a_command_goes_to_the_model(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(*(answer("ok") for _ in range(7)))
    ordinary = [
        "/status please",
        "what is /status?",
        "/bogus",
        "/status\nand more",
        "//help",
        "/new x",
    ]
    for number, message in enumerate(ordinary):
        assert text_of(await send(peer, message, f"m{number}")) == "ok"
    told = {"suppressCommandInterpretation": True}
    assert text_of(await send(peer, "/status", "suppressed", **told)) == "ok"
    assert provider.requests[-1].json["messages"][-1]["content"] == "/status"


async def test_a_repeated_command_does_nothing_twice(peer: Peer) -> None:
    await send(peer, "/think high", "level")
    await send(peer, "/think low", "another")
    repeated = {"sessionKey": MAIN, "message": "/think high", "idempotencyKey": "level"}
    assert await peer.call("chat.send", repeated) == {"runId": "level", "status": "ok"}
    session = (await peer.call("sessions.describe", {"key": MAIN}))["session"]
    assert session["thinkingLevel"] == "low"


async def test_commands_need_what_their_methods_need(enter: Enter) -> None:
    async with enter(scopes=["operator.read", "operator.write"]) as writer:
        await send(writer, "/think high", "level")
        await send(writer, "/status", "status")
        for message in ("/compact", "/compact the names", "/new", "/reset"):
            with pytest.raises(Refused, match=r"missing scope: operator\.admin"):
                await writer.call(
                    "chat.send",
                    {"sessionKey": MAIN, "message": message, "idempotencyKey": message},
                )
        with pytest.raises(Refused, match=r"missing scope: operator\.admin"):
            await writer.call("sessions.create", {"key": MAIN, "message": "/compact"})
    async with enter(scopes=["operator.read"]) as reader:
        with pytest.raises(Refused, match=r"missing scope: operator\.write"):
            await reader.call(
                "chat.send", {"sessionKey": MAIN, "message": "/status", "idempotencyKey": "x"}
            )


async def test_everybody_who_watches_a_session_sees_what_a_command_answers(
    peer: Peer, enter: Enter
) -> None:
    async with enter() as other:
        await other.call("sessions.messages.subscribe", {"key": MAIN})
        await peer.call("sessions.send", {"key": MAIN, "message": "/status", "idempotencyKey": "s"})
        assert "Model: fake/m" in text_of(await ending(other, "s"))


@pytest.mark.parametrize("command", ["/new", "/reset"])
async def test_starting_over_that_is_sent_again_leaves_no_later_turn_behind(
    peer: Peer, command: str
) -> None:
    await send(peer, "before", "one")
    asked = {"sessionKey": MAIN, "message": command, "idempotencyKey": "again"}
    await send(peer, command, "again")
    begun = await history(peer)
    await send(peer, "after", "two")

    repeated = await peer.call("chat.send", asked)

    told = await history(peer)
    assert (repeated["status"], told["sessionId"]) == ("ok", begun["sessionId"])
    assert len(told["messages"]) == 2


async def test_a_stop_that_is_sent_again_stops_no_later_run(
    peer: Peer, provider: FakeProvider
) -> None:
    asked = {"sessionKey": MAIN, "message": "/stop", "idempotencyKey": "again"}
    await peer.call("chat.send", asked)
    provider.will(hang_after("wait"))
    later = {"sessionKey": MAIN, "message": "hi", "idempotencyKey": "later"}
    await peer.call("chat.send", later)
    await peer.event("chat", runId="later")

    assert (await peer.call("chat.send", asked))["status"] == "ok"

    aborted = await peer.call("chat.abort", {"sessionKey": MAIN, "runId": "later"})
    assert aborted["runIds"] == ["later"]
