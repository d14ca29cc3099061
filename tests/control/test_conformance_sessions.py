"""Looking after sessions, row by row of the family's conformance list, with our answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

from tests.app.serving import SECRET, Served, config, serving
from tests.app.serving import provider as provider_section
from tests.control.client import Peer, Refused, connected
from tests.control.conftest import Enter
from tests.fakes.behaviours import hang_after
from tests.fakes.domain import FakeClock
from tests.fakes.provider import FakeProvider

CHILD, OTHER_CHILD = "agent:main:subagent:one", "agent:main:subagent:two"
GROUP = "agent:main:discord:group:dev"


async def create(peer: Peer, *keys: str) -> None:
    for key in keys:
        await peer.call("sessions.create", {"key": key})


async def say(peer: Peer, key: str, text: str = "hi") -> None:
    """One whole turn."""
    sent = await peer.call("sessions.send", {"key": key, "message": text})
    assert (await peer.call("agent.wait", {"runId": sent["runId"]}))["status"] == "ok"


async def listed(peer: Peer, **params: Any) -> list[str]:
    told = await peer.call("sessions.list", params)
    return [row["key"] for row in told["sessions"]]


async def row(peer: Peer, key: str) -> dict[str, Any]:
    told: dict[str, Any] = (await peer.call("sessions.describe", {"key": key}))["session"]
    return told


async def refusal(peer: Peer, method: str, **params: Any) -> str:
    """The words of a refusal."""
    with pytest.raises(Refused) as caught:
        await peer.call(method, params)
    assert caught.value.error["code"] == "INVALID_REQUEST"
    return str(caught.value.error["message"])


@asynccontextmanager
async def configured(
    home: Path, provider: FakeProvider, agents: dict[str, Any]
) -> AsyncIterator[Peer]:
    """A client of a Gateway with these agents, and the models m and n."""
    models = {"providers": {"fake": provider_section(provider.base_url, "m", "n")}}
    content = config(provider.base_url, agents=agents, models=models)
    async with serving(home, content) as served, connected(served.client, SECRET) as peer:
        yield peer


async def test_main_is_found_under_its_canonical_key(peer: Peer) -> None:
    await create(peer, "main")

    assert await peer.call("sessions.resolve", {"key": "main"}) == {
        "ok": True,
        "key": "agent:main:main",
        "agentId": "main",
    }


async def test_an_old_key_is_found_by_the_id_of_its_session(peer: Peer) -> None:
    await create(peer, "discord:group:dev")
    session_id = (await row(peer, "discord:group:dev"))["sessionId"]

    found = await peer.call("sessions.resolve", {"sessionId": session_id})

    assert found["key"] == GROUP


async def test_exactly_one_way_to_name_a_session_is_taken(peer: Peer) -> None:
    both = await refusal(peer, "sessions.resolve", key="main", label="x")
    assert both == "Provide either key, sessionId, or label (not multiple)"
    neither = await refusal(peer, "sessions.resolve")
    assert neither == "Either key, sessionId, or label is required"
    assert await refusal(peer, "sessions.resolve", key="nobody") == "No session found: nobody"
    missing = await refusal(peer, "sessions.resolve", label="Nobody")
    assert missing == "No session found with label: Nobody"


async def test_a_list_tells_where_what_model_and_how_much(served: Served, peer: Peer) -> None:
    await say(peer, "main")

    told = await peer.call("sessions.list", {"includeGlobal": False, "includeUnknown": False})

    assert told["path"].endswith("opensoul.sqlite3")
    assert told["defaults"]["modelProvider"] == "fake"
    assert (told["count"], told["totalCount"], told["hasMore"]) == (1, 1, False)
    (main,) = told["sessions"]
    assert (main["key"], main["kind"], main["isMain"]) == ("agent:main:main", "direct", True)
    assert (main["inputTokens"], main["outputTokens"], main["totalTokens"]) == (7, 3, 10)


async def test_only_what_was_used_in_the_last_minutes_the_newest_first(
    tmp_path: Path, provider: FakeProvider
) -> None:
    clock = FakeClock(1_700_000_000.0)
    content = config(provider.base_url)
    async with (
        serving(tmp_path, content, clock=providers.Object(clock)) as served,
        connected(served.client, SECRET) as peer,
    ):
        for key in ("discord:group:dev", CHILD, "main"):
            await create(peer, key)
            clock.advance(240.0)
        assert await listed(peer, activeMinutes=5) == ["agent:main:main"]
        assert await listed(peer) == ["agent:main:main", CHILD, GROUP]
        first = await peer.call("sessions.list", {"limit": 1, "includeGlobal": True})
        assert (first["count"], first["totalCount"], first["nextOffset"]) == (1, 3, 1)
        assert first["sessions"][0]["key"] == "agent:main:main"
        assert await listed(peer, limit=5, offset=1) == [CHILD, GROUP]


async def test_levels_are_set_shown_and_taken_away(peer: Peer) -> None:
    levels = {"key": "main", "thinkingLevel": "medium", "verboseLevel": "off"}
    told = await peer.call("sessions.patch", levels)
    assert (told["ok"], told["key"]) == (True, "agent:main:main")
    (main,) = (await peer.call("sessions.list"))["sessions"]
    assert (main["thinkingLevel"], main["verboseLevel"]) == ("medium", "off")
    assert (await peer.call("chat.history", {"sessionKey": "main"}))["thinkingLevel"] == "medium"

    await peer.call("sessions.patch", {"key": "main", "verboseLevel": None})

    assert "verboseLevel" not in await row(peer, "main")
    assert (await row(peer, "main"))["thinkingLevel"] == "medium"


async def test_thinking_off_is_kept_as_what_it_is(peer: Peer) -> None:
    await peer.call("sessions.patch", {"key": "main", "thinkingLevel": "off"})

    assert (await row(peer, "main"))["thinkingLevel"] == "off"


async def test_the_right_to_send_is_set_in_the_entry(peer: Peer) -> None:
    told = await peer.call("sessions.patch", {"key": "main", "sendPolicy": "deny"})
    assert told["entry"]["sendPolicy"] == "deny"
    with pytest.raises(Refused, match="send blocked by session policy"):
        await peer.call("chat.send", {"sessionKey": "main", "message": "x", "idempotencyKey": "K"})

    await peer.call("sessions.patch", {"key": "main", "sendPolicy": "allow"})
    await say(peer, "main")


async def test_a_label_is_for_one_session_and_finds_it(peer: Peer) -> None:
    told = await peer.call("sessions.patch", {"key": CHILD, "label": "Briefing"})
    assert (told["entry"]["label"], told["entry"]["displayName"]) == ("Briefing", "Briefing")
    taken = await refusal(peer, "sessions.patch", key=OTHER_CHILD, label="Briefing")
    assert taken == "label already in use: Briefing"
    again = await peer.call("sessions.patch", {"key": CHILD, "label": "Briefing"})
    assert again["ok"] is True

    assert await listed(peer, label="Briefing") == [CHILD]
    assert (await peer.call("sessions.resolve", {"label": "Briefing"}))["key"] == CHILD


async def test_a_child_tells_its_parent_and_is_listed_by_it(peer: Peer) -> None:
    parent = "agent:main:main"
    await create(peer, "main")
    told = await peer.call("sessions.patch", {"key": OTHER_CHILD, "spawnedBy": parent})
    assert told["entry"]["spawnedBy"] == parent

    assert await listed(peer, spawnedBy=parent) == [OTHER_CHILD]
    only = await refusal(peer, "sessions.patch", key="main", spawnedBy=CHILD)
    assert only == "spawnedBy is only supported for subagent:* sessions"
    other = await refusal(peer, "sessions.patch", key=OTHER_CHILD, spawnedBy=CHILD)
    assert other == "spawnedBy cannot be changed once set"
    cleared = await refusal(peer, "sessions.patch", key=OTHER_CHILD, spawnedBy=None)
    assert cleared == "spawnedBy cannot be cleared once set"


async def test_a_chosen_model_is_told_and_asked(tmp_path: Path, provider: FakeProvider) -> None:
    agents = {"defaults": {"model": {"primary": "fake/m"}}}
    async with configured(tmp_path, provider, agents) as peer:
        told = await peer.call("sessions.patch", {"key": "main", "model": "fake/n"})
        assert told["entry"]["providerOverride"] == "fake"
        assert told["entry"]["modelOverride"] == "n"
        assert told["resolved"] == {"modelProvider": "fake", "model": "n"}
        await say(peer, "main")
        assert provider.requests[-1].json["model"] == "n"

        before = (await row(peer, "main"))["sessionId"]
        reset = await peer.call("sessions.reset", {"key": "main"})
        assert reset["entry"]["sessionId"] != before
        assert reset["entry"]["modelOverride"] == "n"

        await peer.call("sessions.patch", {"key": "main", "model": None})
        await say(peer, "main")
        assert provider.requests[-1].json["model"] == "m"
        unknown = await refusal(peer, "sessions.patch", key="main", model="openai/gpt-none")
        assert "openai/gpt-none" in unknown


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"thinkingLevel": "banana"}, "invalid thinkingLevel (use off|minimal|low|medium|high"),
        ({"verboseLevel": "loud"}, "invalid verboseLevel (use "),
        ({"reasoningLevel": "x"}, "invalid reasoningLevel (use "),
        ({"responseUsage": "x"}, "invalid responseUsage (use "),
        ({"elevatedLevel": "x"}, "invalid elevatedLevel (use "),
        ({"execHost": "x"}, "invalid execHost (use "),
        ({"execSecurity": "x"}, "invalid execSecurity (use "),
        ({"execAsk": "x"}, "invalid execAsk (use "),
        ({"sendPolicy": "x"}, "invalid sendPolicy (use "),
        ({"label": "x" * 65}, "label"),
    ],
)
async def test_a_setting_that_is_none_is_refused_with_what_is_allowed(
    peer: Peer, setting: dict[str, str], problem: str
) -> None:
    assert (await refusal(peer, "sessions.patch", key="main", **setting)).startswith(problem)
    assert await listed(peer) == []


async def test_the_key_main_is_of_the_default_agent(tmp_path: Path, provider: FakeProvider) -> None:
    agents = {
        "defaults": {"model": {"primary": "fake/m"}},
        "list": [{"id": "home"}, {"id": "ops", "default": True}],
    }
    async with configured(tmp_path, provider, agents) as peer:
        told = await peer.call("sessions.patch", {"key": "main", "label": "Mine"})
        assert told["key"] == "agent:ops:main"


async def test_an_agents_sessions_are_listed_apart(tmp_path: Path, provider: FakeProvider) -> None:
    agents = {
        "defaults": {"model": {"primary": "fake/m"}},
        "list": [{"id": "home", "default": True}, {"id": "work"}],
    }
    async with configured(tmp_path, provider, agents) as peer:
        await create(peer, "agent:home:main", "agent:work:main", "agent:work:talk")
        assert await listed(peer, agentId="home") == ["agent:home:main"]
        assert set(await listed(peer, agentId="work")) == {"agent:work:main", "agent:work:talk"}


async def test_compacting_keeps_the_newest_from_a_question_on_and_the_old_beside_it(
    peer: Peer,
) -> None:
    for number in range(5):
        await say(peer, "talk", f"m{number}")
    before = (await row(peer, "talk"))["sessionId"]

    told = await peer.call("sessions.compact", {"key": "talk", "maxLines": 5})

    assert (told["compacted"], told["kept"]) == (True, 4)
    history = await peer.call("chat.history", {"sessionKey": "talk"})
    spoken = [message["content"][0]["text"] for message in history["messages"]]
    assert spoken == ["m3", "Hello!", "m4", "Hello!"]
    old = await peer.call("chat.history", {"sessionKey": "talk", "sessionId": before})
    assert len(old["messages"]) == 10
    again = await peer.call("sessions.compact", {"key": "talk", "maxLines": 5})
    assert (again["compacted"], again["kept"]) == (False, 4)
    none = await peer.call("sessions.compact", {"key": "nobody", "maxLines": 5})
    assert (none["compacted"], none["reason"]) == (False, "no transcript")


async def test_a_deleted_session_is_gone_from_every_list(peer: Peer) -> None:
    await say(peer, "discord:group:dev")

    told = await peer.call("sessions.delete", {"key": "discord:group:dev"})

    assert (told["ok"], told["key"], told["deleted"]) == (True, GROUP, True)
    assert await listed(peer) == []
    assert (await peer.call("chat.history", {"sessionKey": GROUP}))["messages"] == []
    assert (await peer.call("sessions.delete", {"key": GROUP}))["deleted"] is False


async def test_a_session_starts_over_under_its_key(peer: Peer) -> None:
    await say(peer, "main")
    before = await row(peer, "main")

    told = await peer.call("sessions.reset", {"key": "main"})

    assert told["key"] == "agent:main:main"
    assert told["entry"]["sessionId"] != before["sessionId"]
    assert told["entry"]["totalTokens"] == 0
    assert (await peer.call("chat.history", {"sessionKey": "main"}))["messages"] == []
    await say(peer, "main")


async def test_a_preview_shows_what_was_called(served: Served, peer: Peer) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "how is it?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "user", "content": "well?"},
    ]
    await served.text(user="bob", messages=messages)

    asked = {"keys": ["agent:main:openai-user:bob", "nobody", "bad:::"]}
    previews = (await peer.call("sessions.preview", asked))["previews"]

    assert [one["status"] for one in previews][:2] == ["ok", "missing"]
    items = [(item["role"], item["text"]) for item in previews[0]["items"]]
    assert items == [
        ("user", "how is it?"),
        ("assistant", "Let me look."),
        ("tool", "call weather"),
        ("tool", "sunny"),
        ("user", "well?"),
        ("assistant", "Hello!"),
    ]


async def test_the_main_session_cannot_be_deleted_and_the_others_can_while_they_run(
    peer: Peer, provider: FakeProvider
) -> None:
    main = await refusal(peer, "sessions.delete", key="main")
    assert main == "Cannot delete the main session (agent:main:main)."
    provider.will(hang_after("Hel"))
    await create(peer, "talk")
    run = peer.send("agent", {"message": "hi", "sessionKey": "talk", "idempotencyKey": "K"})
    await peer.answer(run)
    await peer.event("agent", stream="assistant")
    queued = peer.send("agent", {"message": "hi", "sessionKey": "talk", "idempotencyKey": "L"})
    await peer.answer(queued)
    request = await provider.arrival()

    assert (await peer.call("sessions.delete", {"key": "talk"}))["deleted"] is True

    await asyncio.wait_for(request.disconnected.wait(), 5.0)
    assert (await peer.answer(run))["status"] == "aborted"
    assert (await peer.answer(queued))["status"] == "aborted"
    assert await listed(peer) == []
    assert len(provider.requests) == 1


async def test_a_session_that_runs_is_reset_by_stopping_its_run(
    peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    run = peer.send("agent", {"message": "hi", "sessionKey": "talk", "idempotencyKey": "K"})
    await peer.answer(run)
    await peer.event("agent", stream="assistant")

    assert (await peer.call("sessions.reset", {"key": "talk"}))["ok"] is True

    assert (await peer.answer(run))["status"] == "aborted"
    assert (await peer.call("chat.history", {"sessionKey": "talk"}))["messages"] == []


async def test_one_session_is_told_to_who_asked_and_changes_to_everybody(enter: Enter) -> None:
    async with enter() as peer, enter(scopes=["operator.read"]) as reader:
        subscribed = await reader.call("sessions.messages.subscribe", {"key": "talk"})
        assert subscribed["key"] == "agent:main:talk"
        assert (await reader.call("sessions.subscribe", {"agentId": "main"}))["subscribed"] is True
        await say(peer, "talk")
        final = await reader.event("chat", state="final")
        assert final["payload"]["sessionKey"] == "agent:main:talk"
        await reader.call("sessions.messages.unsubscribe", {"key": "talk"})
        await reader.call("sessions.unsubscribe")
        await say(peer, "talk")
        await peer.call("sessions.patch", {"key": "talk", "label": "Mine"})
        await reader.event("sessions.changed", change="patched")
        await reader.call("health")
        told = [frame["event"] for frame in reader.events]
    assert not {"agent", "chat"} & set(told)


async def test_what_a_terminal_asks_for_at_its_start_is_answered(enter: Enter) -> None:
    client = {"id": "openclaw-tui", "version": "1", "platform": "linux", "mode": "ui"}
    async with enter(client=client) as peer:
        assert (await peer.call("sessions.subscribe", {}))["subscribed"] is True
        assert (await peer.call("agents.list", {}))["defaultId"] == "main"
        assert await peer.call("question.list", {}) == {"questions": []}
        assert await peer.call("plugin.approval.list", {}) == []
        history = await peer.call("chat.history", {"sessionKey": "main", "limit": 200})
        assert history["messages"] == []
        assert await peer.call("sessions.describe", {"key": "main"}) == {"session": None}
        assert (await peer.call("sessions.list", {"agentId": "main", "limit": 1}))["sessions"] == []
        commands = {"agentId": "main", "scope": "both", "includeArgs": True}
        assert (await peer.call("commands.list", commands))["commands"]
