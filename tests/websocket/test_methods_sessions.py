"""Sessions: listing them, finding them, changing them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError

from opensoul.domain.errors import Forbidden, GatewayError, InvalidRequest, UnknownAgent
from opensoul.domain.messages import Message, Role, Text, ToolCall
from opensoul.domain.settings import StoreSettings
from tests.fakes.domain import Gate, answered, assistant, settings, user
from tests.websocket.methods import READER, Bench, connection, conversation, events

MINUTE = 60.0


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.store.open()
    yield bench
    await bench.store.close()


async def refusal(bench: Bench, method: str, **params: Any) -> str:
    with pytest.raises(GatewayError) as caught:
        await bench.ask(method, **params)
    return caught.value.message


async def test_a_list_without_sessions_is_a_list(bench: Bench) -> None:
    assert await bench.ask("sessions.list") == {
        "ts": 1_000_000_000,
        "path": "/state/sessions.db",
        "count": 0,
        "totalCount": 0,
        "limitApplied": 100,
        "nextOffset": None,
        "hasMore": False,
        "defaults": {"modelProvider": "acme", "model": "one", "contextTokens": 200_000},
        "sessions": [],
    }


async def test_a_row_tells_what_a_client_shows(bench: Bench) -> None:
    await bench.turn("main", at=bench.clock() - 5)
    (row,) = (await bench.ask("sessions.list"))["sessions"]
    assert row == {
        "key": "agent:main:main",
        "agentId": "main",
        "kind": "direct",
        "isMain": True,
        "sessionId": "s-main",
        "createdAt": 999_995_000,
        "updatedAt": 999_995_000,
        "lastActivityAt": 999_995_000,
        "lastInteractionAt": 999_995_000,
        "messageCount": 2,
        "compactionCount": 0,
        "inputTokens": 20,
        "outputTokens": 10,
        "totalTokens": 30,
        "totalTokensFresh": True,
        "modelProvider": "acme",
        "model": "one",
        "contextTokens": 200_000,
        "archived": False,
        "pinned": False,
        "unread": False,
        "hasActiveRun": False,
        "activeRunIds": [],
        "status": "done",
    }


async def test_the_place_where_sessions_are_kept_is_for_administrators(bench: Bench) -> None:
    reader = connection("reader", READER)
    assert (await bench.ask("sessions.list", reader))["path"] == "[redacted]"


async def test_what_is_in_memory_says_so_and_an_agent_needs_no_model(bench: Bench) -> None:
    bench.settings = settings(store=StoreSettings(memory=True))
    await bench.turn("main", model="")
    listed = await bench.ask("sessions.list")
    assert listed["path"] == "(memory)"
    assert listed["defaults"] == {"modelProvider": None, "model": None, "contextTokens": None}
    (row,) = listed["sessions"]
    assert (row["model"], row["contextTokens"]) == (None, None)


async def test_pages_follow_one_another_newest_first(bench: Bench) -> None:
    for i in range(5):
        await bench.turn(f"s{i}", at=bench.clock() - i)
    first = await bench.ask("sessions.list", limit=2)
    assert (first["count"], first["totalCount"], first["nextOffset"]) == (2, 5, 2)
    assert await bench.keys(limit=2, offset=2) == ["agent:main:s2", "agent:main:s3"]
    last = await bench.ask("sessions.list", limit=2, offset=4)
    assert (last["hasMore"], last["nextOffset"]) == (False, None)


async def test_only_those_used_in_the_last_minutes(bench: Bench) -> None:
    await bench.turn("main", at=bench.clock() - 2 * MINUTE)
    await bench.turn("old", at=bench.clock() - 10 * MINUTE)
    assert await bench.keys(activeMinutes=5) == ["agent:main:main"]


async def test_only_those_of_an_agent_a_label_a_parent_or_a_word(bench: Bench) -> None:
    await bench.turn("agent:beta:talk")
    await bench.turn("main")
    child = "agent:main:subagent:one"
    await bench.ask("sessions.patch", key=child, label="Briefing", spawnedBy="agent:main:main")
    assert await bench.keys(agentId="BETA") == ["agent:beta:talk"]
    assert await bench.keys(label="Briefing") == [child]
    assert await bench.keys(spawnedBy="agent:main:main") == [child]
    assert await bench.keys(search="brief") == [child]
    assert child not in await bench.keys(excludeSubagents=True)


async def test_archived_sessions_and_those_at_work_can_be_told_apart(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        await bench.turn(name, at=bench.clock())
    await bench.ask("sessions.patch", key="b", archived=True)
    assert await bench.keys(archived=True) == ["agent:main:b"]
    assert await bench.keys(archived=False) == ["agent:main:c", "agent:main:a"]
    assert await bench.keys(archived=False, limit=1, offset=1) == ["agent:main:a"]
    assert len(await bench.keys(archived="all")) == 3
    assert await bench.keys(activeOnly=True) == []


async def test_titles_and_last_messages_are_told_where_they_are_asked_for(bench: Bench) -> None:
    await bench.turn("main", user("  What\n is " + "x" * 100), assistant("It is y."))
    await bench.turn("main", Message(Role.ASSISTANT, (ToolCall("c", "weather", "{}"),)))
    (row,) = (await bench.ask("sessions.list", includeDerivedTitles=True, includeLastMessage=True))[
        "sessions"
    ]
    assert row["derivedTitle"].startswith("What is xxx")
    assert (len(row["derivedTitle"]), row["derivedTitle"][-1]) == (80, "…")
    assert row["lastMessagePreview"] == "It is y."


async def test_more_than_a_thousand_are_not_told_at_once(bench: Bench) -> None:
    assert (await bench.ask("sessions.list", limit=5_000))["limitApplied"] == 1_000
    cut = await bench.ask("sessions.list", limit=5_000, includeLastMessage=True)
    assert cut["limitApplied"] == 200


async def test_describing_tells_of_one_session_or_of_none(bench: Bench) -> None:
    assert await bench.ask("sessions.describe", key="main") == {"session": None}
    await bench.turn("main")
    told = await bench.ask("sessions.describe", key="main", includeLastMessage=True)
    assert told["session"]["key"] == "agent:main:main"
    assert told["session"]["lastMessagePreview"] == "hi"


async def test_a_session_is_found_by_key_id_or_label(bench: Bench) -> None:
    await bench.turn("discord:group:dev")
    await bench.ask("sessions.patch", key="main", label="Mine")
    main = {"ok": True, "key": "agent:main:main", "agentId": "main", "displayName": "Mine"}
    assert await bench.ask("sessions.resolve", key="main") == main
    assert await bench.ask("sessions.resolve", label="Mine", agentId="main") == main
    found = await bench.ask("sessions.resolve", sessionId="s-discord:group:dev")
    assert found == {"ok": True, "key": "agent:main:discord:group:dev", "agentId": "main"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"key": "a", "label": "b"}, "Provide either key, sessionId, or label (not multiple)"),
        ({}, "Either key, sessionId, or label is required"),
        ({"key": "x"}, "No session found: x"),
        ({"sessionId": "x"}, "No session found: x"),
        ({"label": "x"}, "No session found with label: x"),
        ({"label": "Mine", "agentId": "beta"}, "No session found with label: Mine"),
        ({"label": "Mine", "spawnedBy": "x"}, "No session found with label: Mine"),
    ],
)
async def test_what_leads_to_no_session_says_so(
    bench: Bench, params: dict[str, str], message: str
) -> None:
    await bench.ask("sessions.patch", key="main", label="Mine")
    assert await refusal(bench, "sessions.resolve", **params) == message


async def test_a_missing_session_may_be_allowed(bench: Bench) -> None:
    assert await bench.ask("sessions.resolve", key="x", allowMissing=True) == {"ok": False}


async def test_an_id_of_two_sessions_is_refused_with_their_keys(bench: Bench) -> None:
    for name in ("a", "b"):
        await bench.store.reset(bench.gateway.session_key(name), at=1.0, new_id="same")
    message = await refusal(bench, "sessions.resolve", sessionId="same")
    assert message.startswith("Multiple sessions found for sessionId: same (agent:main:")


async def test_a_preview_shows_roles_texts_and_calls(bench: Bench) -> None:
    await bench.turn(
        "main",
        Message(Role.ASSISTANT, (Text("I will look."), ToolCall("c", "weather", "{}"))),
        assistant("It\nrains. " + "x" * 300),
    )
    await bench.ask("sessions.patch", key="empty")
    told = await bench.ask("sessions.preview", keys=["main", "empty", "nobody", "agent::"])
    previews = {one["key"]: one for one in told["previews"]}
    items = previews["main"]["items"]
    assert [item["role"] for item in items] == ["assistant", "tool", "assistant"]
    assert items[1]["text"] == "call weather"
    assert items[2]["text"].startswith("It rains. xxx")
    assert (len(items[2]["text"]), previews["main"]["status"]) == (240, "ok")
    assert [previews[key]["status"] for key in ("empty", "nobody", "agent::")] == [
        "empty",
        "missing",
        "error",
    ]


async def test_a_preview_is_bounded(bench: Bench) -> None:
    await bench.turn("main", *conversation(80))
    told = await bench.ask("sessions.preview", keys=["main"] * 70, limit=1_000, maxChars=10_000)
    assert len(told["previews"]) == 64
    assert [item["text"] for item in told["previews"][0]["items"]] == [
        f"m{i}" for i in range(30, 80)
    ]


async def test_transcripts_are_listed_the_newest_first(bench: Bench) -> None:
    await bench.turn("main", user("first"), at=5.0)
    await bench.ask("sessions.reset", key="main")
    told = await bench.ask("sessions.listTranscripts", sessionKey="main")
    assert [one["firstQuestion"] for one in told["transcripts"]] == [None, "first"]
    assert told["transcripts"][1]["sessionId"] == "s-main"
    assert told["transcripts"][1]["mtime"] == 5_000


async def test_settings_are_patched_shown_and_taken_away(bench: Bench) -> None:
    await bench.turn("main")
    told = await bench.ask(
        "sessions.patch", key="main", thinkingLevel="medium", verboseLevel="off", sendPolicy="deny"
    )
    assert (told["ok"], told["key"], told["path"]) == (
        True,
        "agent:main:main",
        "/state/sessions.db",
    )
    assert told["entry"]["sendPolicy"] == "deny"
    (row,) = (await bench.ask("sessions.list"))["sessions"]
    assert (row["thinkingLevel"], row["verboseLevel"]) == ("medium", "off")
    told = await bench.ask("sessions.patch", key="main", verboseLevel=None)
    assert "verboseLevel" not in told["entry"]
    assert told["entry"]["thinkingLevel"] == "medium"


async def test_a_patch_begins_a_session_and_names_it(bench: Bench) -> None:
    told = await bench.ask("sessions.patch", key="subagent:one", label="Briefing")
    assert (told["entry"]["label"], told["entry"]["displayName"]) == ("Briefing", "Briefing")
    assert await refusal(bench, "sessions.patch", key="other", label="Briefing") == (
        "label already in use: Briefing"
    )


async def test_a_model_is_chosen_by_reference_or_alias(bench: Bench) -> None:
    told = await bench.ask("sessions.patch", key="main", model="quick")
    assert told["resolved"] == {"modelProvider": "acme", "model": "two"}
    entry = told["entry"]
    assert (entry["providerOverride"], entry["modelOverride"]) == ("acme", "two")
    (row,) = (await bench.ask("sessions.list"))["sessions"]
    assert (row["model"], row["contextTokens"]) == ("two", 9_000)
    assert await refusal(bench, "sessions.patch", key="main", model="zeta/x") == (
        "model not allowed: zeta/x"
    )


async def test_a_chosen_model_that_is_gone_is_not_told_as_the_next_one(bench: Bench) -> None:
    key = bench.gateway.session_key("main")
    await bench.store.patch(key, {"model": "gone/x"}, at=1.0, new_id="s")
    told = await bench.ask("sessions.patch", key="main", pinned=True)
    assert told["resolved"] == {"modelProvider": "acme", "model": "one"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thinkingLevel": "banana"}, "invalid thinkingLevel"),
        ({"elevatedLevel": "banana"}, "invalid elevatedLevel"),
        ({"spawnedBy": "agent:main:main"}, "spawnedBy is only supported for subagent"),
        ({"label": "x" * 65}, "label is longer"),
        ({"expectedSessionId": "other"}, "is not at other any more"),
    ],
)
async def test_a_patch_that_is_wrong_says_how(
    bench: Bench, changes: dict[str, Any], message: str
) -> None:
    await bench.turn("main")
    assert message in await refusal(bench, "sessions.patch", key="main", **changes)


async def test_an_unknown_setting_or_agent_is_refused(bench: Bench) -> None:
    with pytest.raises(ValidationError):
        await bench.ask("sessions.patch", key="main", colour="red")
    with pytest.raises(UnknownAgent):
        await bench.ask("sessions.patch", key="agent:nobody:main", label="x")


async def test_a_reader_changes_nothing(bench: Bench) -> None:
    reader = connection("reader", READER)
    for method, params in (
        ("sessions.patch", {"key": "main", "label": "x"}),
        ("sessions.reset", {"key": "main"}),
        ("sessions.delete", {"key": "x"}),
        ("sessions.compact", {"key": "main"}),
        ("sessions.create", {}),
        ("sessions.send", {"key": "main", "message": "hello"}),
        ("sessions.abort", {"key": "main"}),
    ):
        with pytest.raises(Forbidden):
            await bench.ask(method, reader, **params)


async def test_a_reset_gives_a_session_a_new_transcript_and_keeps_its_settings(
    bench: Bench,
) -> None:
    await bench.turn("main")
    await bench.ask("sessions.patch", key="main", model="quick", label="Mine")
    told = await bench.ask("sessions.reset", key="main", reason="new")
    entry = told["entry"]
    assert (told["ok"], told["key"]) == (True, "agent:main:main")
    assert entry["sessionId"] != "s-main"
    assert (entry["totalTokens"], entry["label"], entry["modelOverride"]) == (0, "Mine", "two")


async def test_a_deleted_session_is_gone(bench: Bench) -> None:
    await bench.turn("discord:group:dev")
    told = await bench.ask("sessions.delete", key="discord:group:dev")
    key = "agent:main:discord:group:dev"
    assert told == {"ok": True, "key": key, "deleted": True, "archived": []}
    assert await bench.keys() == []
    assert not (await bench.ask("sessions.delete", key=key))["deleted"]


async def test_the_main_session_cannot_be_deleted(bench: Bench) -> None:
    assert await refusal(bench, "sessions.delete", key="main") == (
        "Cannot delete the main session (agent:main:main)."
    )


async def test_deleting_can_be_limited_to_archived_sessions(bench: Bench) -> None:
    await bench.turn("a")
    message = await refusal(bench, "sessions.delete", key="a", archivedOnly=True)
    assert message == "The session agent:main:a is not archived."
    await bench.ask("sessions.patch", key="a", archived=True)
    assert (await bench.ask("sessions.delete", key="a", archivedOnly=True))["deleted"]


async def test_a_transcript_does_not_outlive_its_session(bench: Bench) -> None:
    message = await refusal(bench, "sessions.delete", key="a", deleteTranscript=False)
    assert "archive the session" in message


async def test_deleting_stops_what_runs_in_the_session(bench: Bench) -> None:
    gate = Gate()
    bench.runner.script("K", gate, answered())
    await bench.ask("sessions.send", key="talk", message="hello", idempotencyKey="K")
    await gate.reached.wait()
    await bench.ask("sessions.delete", key="talk")
    assert await bench.gateway.active(bench.operator.principal) == ()
    assert await bench.keys() == []


async def test_compacting_keeps_the_newest_messages(bench: Bench) -> None:
    await bench.turn("main", *conversation(10))
    told = await bench.ask("sessions.compact", key="main", maxLines=4)
    assert (told["ok"], told["compacted"], told["kept"]) == (True, True, 4)
    history = await bench.ask("chat.history", sessionKey="main")
    assert [one["content"][0]["text"] for one in history["messages"]] == ["m6", "m7", "m8", "m9"]
    again = await bench.ask("sessions.compact", key="main", maxLines=4)
    assert (again["compacted"], again["kept"]) == (False, 4)
    missing = await bench.ask("sessions.compact", key="nobody")
    assert (missing["compacted"], missing["reason"]) == (False, "no transcript")


async def test_a_session_can_be_begun_without_a_message(bench: Bench) -> None:
    told = await bench.ask("sessions.create", agentId="beta", label="New", model="quick")
    assert told["key"].startswith("agent:beta:chat:")
    assert (told["ok"], told["runStarted"]) == (True, False)
    assert (await bench.ask("sessions.resolve", label="New"))["key"] == told["key"]


async def test_a_session_can_be_begun_with_a_message(bench: Bench) -> None:
    told = await bench.ask("sessions.create", key="talk", message="hello", idempotencyKey="K")
    assert (told["key"], told["runStarted"], told["runId"]) == ("agent:main:talk", True, "K")
    await bench.log.end_of("K")
    history = await bench.ask("chat.history", sessionKey="talk")
    assert [one["content"][0]["text"] for one in history["messages"]] == ["hello", "hi"]


@pytest.mark.parametrize("size", [250, 501])
async def test_a_key_of_any_length_that_the_grammar_allows_is_of_use_everywhere(
    bench: Bench, size: int
) -> None:
    key = "k" * size
    whole = f"agent:main:{key}"
    for spelling in (key, whole):
        gate, run_id = Gate(), f"K-{len(spelling)}"
        bench.runner.script(run_id, gate, answered())
        told = await bench.ask(
            "sessions.create", key=spelling, message="hello", idempotencyKey=run_id
        )
        assert (told["key"], told["runId"]) == (whole, run_id)
        await gate.reached.wait()
        assert (await bench.ask("sessions.abort", runId=run_id))["aborted"]
        await bench.log.end_of(run_id)
    sent = await bench.ask("sessions.send", key=whole, message="again")
    await bench.log.end_of(sent["runId"])
    assert (await bench.ask("chat.history", sessionKey=whole))["sessionKey"] == whole


@pytest.mark.parametrize("key", ["k" * 502, "é" * 251])
async def test_a_key_beyond_the_grammars_limit_is_refused_with_the_limit(
    bench: Bench, key: str
) -> None:
    for method in ("sessions.create", "sessions.send"):
        assert "is longer than 512 bytes" in await refusal(bench, method, key=key, message="hi")


async def test_sending_and_aborting_by_key(bench: Bench) -> None:
    gate = Gate()
    bench.runner.script("K", gate, answered())
    sent = await bench.ask("sessions.send", key="talk", message="hello", idempotencyKey="K")
    assert sent == {"runId": "K", "status": "started"}
    await gate.reached.wait()
    aborted = await bench.ask("sessions.abort", runId="K")
    assert aborted == {"ok": True, "aborted": True, "runIds": ["K"]}
    await bench.log.end_of("K")
    nothing = await bench.ask("sessions.abort", key="talk")
    assert nothing == {"ok": True, "aborted": False, "runIds": []}
    assert await refusal(bench, "sessions.abort") == "Either key or runId is required"


async def test_a_message_without_an_idempotency_key_gets_one(bench: Bench) -> None:
    sent = await bench.ask("sessions.send", key="talk", message="hello")
    assert sent["status"] == "started"
    await bench.log.end_of(sent["runId"])


async def test_usage_by_session_and_by_day(bench: Bench) -> None:
    await bench.turn("main", at=86_400.0 * 5)
    await bench.turn("main", at=86_400.0 * 6)
    bench.clock.now = 86_400.0 * 6 + 10
    told = await bench.ask("sessions.usage", startDate="1971-01-01", endDate="1971-01-02")
    assert (told["daily"], told["sessions"]) == ([], [])
    told = await bench.ask("sessions.usage", key="main")
    usage = told["sessions"][0]["usage"]
    assert (usage["input"], usage["output"], usage["totalTokens"]) == (40, 20, 60)
    assert [day["date"] for day in usage["dailyBreakdown"]] == ["1970-01-06", "1970-01-07"]
    assert told["totals"]["totalTokens"] == 60


async def test_usage_of_the_last_days(bench: Bench) -> None:
    bench.clock.now = 86_400.0 * 400
    await bench.turn("main")
    await bench.turn("agent:beta:x", at=bench.clock() - 86_400.0)
    told = await bench.ask("sessions.usage", agentId="beta")
    assert [row["key"] for row in told["sessions"]] == ["agent:beta:x"]
    assert [day["totalTokens"] for day in told["daily"]] == [30]
    told = await bench.ask("sessions.usage", agentScope="all")
    assert [day["totalTokens"] for day in told["daily"]] == [30, 30]
    assert told["totals"]["totalTokens"] == 60


@pytest.mark.parametrize("day", ["2026-02-30", "0001-01-01"])
async def test_a_day_that_there_is_not_is_refused(bench: Bench, day: str) -> None:
    with pytest.raises(InvalidRequest, match="startDate"):
        await bench.ask("sessions.usage", startDate=day)


async def test_who_subscribes_is_told_of_every_session_of_an_agent(bench: Bench) -> None:
    other = connection("other")
    assert await bench.ask("sessions.subscribe", other) == {"subscribed": True}
    listed = await bench.ask("sessions.subscribe", agentId="beta", limit=5)
    assert listed["list"]["limitApplied"] == 5
    for key in ("main", "agent:beta:main"):
        sent = await bench.ask("sessions.send", connection("x"), key=key, message="hello")
        await bench.hub.broadcast_done(sent["runId"])

    async def keys(client: Any) -> set[str]:
        return {event["payload"]["sessionKey"] for event in await events(client)}

    assert await keys(other) == {"agent:main:main", "agent:beta:main"}
    assert await keys(bench.operator) == {"agent:beta:main"}
    assert await bench.ask("sessions.unsubscribe", other) == {"subscribed": False}
    sent = await bench.ask("sessions.send", connection("x"), key="main", message="hello")
    await bench.hub.broadcast_done(sent["runId"])
    assert await events(other) == []


async def test_who_subscribes_to_one_session_is_told_of_that_one(bench: Bench) -> None:
    told = await bench.ask("sessions.messages.subscribe", key="talk")
    assert told == {"subscribed": True, "key": "agent:main:talk", "agentId": "main"}
    sent = await bench.ask("sessions.send", connection("x"), key="talk", message="hello")
    await bench.hub.broadcast_done(sent["runId"])
    assert await events(bench.operator)
    told = await bench.ask("sessions.messages.unsubscribe", key="agent:main:talk")
    assert told["subscribed"] is False
    sent = await bench.ask("sessions.send", connection("x"), key="talk", message="hello")
    await bench.hub.broadcast_done(sent["runId"])
    assert await events(bench.operator) == []


async def test_everybody_who_may_know_hears_of_a_changed_session(bench: Bench) -> None:
    reader = connection("reader", READER)
    async with bench.hub.registered(reader), bench.hub.registered(bench.operator):
        await bench.turn("main")
        await bench.ask("sessions.patch", key="main", label="Mine")
        await bench.ask("sessions.messages.subscribe", key="main")
        await bench.hub.subscribe(bench.operator, bench.gateway.session_key("main"))
        await bench.session_service.inject(
            bench.operator.principal, bench.gateway.session_key("main"), "Oh"
        )
        changed = [e for e in await events(reader) if e["event"] != "presence"]
        told = [e for e in await events(bench.operator) if e["event"] != "presence"]
    assert [event["payload"]["change"] for event in changed] == ["patched", "injected"]
    assert changed[0]["payload"]["key"] == "agent:main:main"
    assert [event["event"] for event in told][-1] == "session.message"
