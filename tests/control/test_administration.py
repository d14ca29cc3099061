"""Sessions, agents, models and the configuration of a running Gateway, over a real socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.app.serving import SECRET, Served, config, serving
from tests.control.client import Peer, Refused, connected
from tests.control.conftest import Enter
from tests.fakes.behaviours import hang
from tests.fakes.provider import FakeProvider

READ = ["operator.read"]
WRITE = ["operator.write"]


async def say(peer: Peer, key: str, text: str = "hi") -> None:
    """One whole turn in a session."""
    sent = await peer.call("sessions.send", {"key": key, "message": text})
    waited = await peer.call("agent.wait", {"runId": sent["runId"]})
    assert waited["status"] == "ok"


async def refusal(peer: Peer, method: str, params: Any = None) -> dict[str, Any]:
    with pytest.raises(Refused) as caught:
        await peer.call(method, params)
    return caught.value.error


async def test_a_session_is_listed_found_previewed_and_read(peer: Peer) -> None:
    await say(peer, "main", "what is up?")
    listed = await peer.call("sessions.list", {"includeDerivedTitles": True})
    (row,) = listed["sessions"]
    assert (row["key"], row["derivedTitle"]) == ("agent:main:main", "what is up?")
    assert (row["modelProvider"], row["model"], row["status"]) == ("fake", "m", "done")
    assert listed["defaults"]["modelProvider"] == "fake"
    assert not any(key in ("global", "unknown") for key in (row["key"],))
    found = await peer.call("sessions.resolve", {"sessionId": row["sessionId"]})
    assert found["key"] == "agent:main:main"
    preview = (await peer.call("sessions.preview", {"keys": ["main"]}))["previews"][0]
    assert preview["items"] == [
        {"role": "user", "text": "what is up?"},
        {"role": "assistant", "text": "Hello!"},
    ]
    history = await peer.call("chat.history", {"sessionKey": "main"})
    assert (history["sessionId"], len(history["messages"])) == (row["sessionId"], 2)


async def test_a_session_that_runs_says_so(peer: Peer, provider: FakeProvider) -> None:
    provider.will(hang())
    sent = await peer.call("sessions.send", {"key": "main", "message": "hi"})
    await peer.event("agent", stream="lifecycle")
    await peer.call("sessions.patch", {"key": "main", "pinned": True})
    (row,) = (await peer.call("sessions.list", {"activeOnly": True}))["sessions"]
    assert (row["hasActiveRun"], row["activeRunIds"]) == (True, [sent["runId"]])
    aborted = await peer.call("sessions.abort", {"key": "main"})
    assert aborted == {"ok": True, "aborted": True, "runIds": [sent["runId"]]}


async def test_settings_labels_and_refusals(peer: Peer) -> None:
    child, other = "agent:main:subagent:one", "agent:main:subagent:two"
    told = await peer.call("sessions.patch", {"key": child, "label": "Briefing"})
    assert (told["ok"], told["entry"]["displayName"]) == (True, "Briefing")
    error = await refusal(peer, "sessions.patch", {"key": other, "label": "Briefing"})
    assert (error["code"], error["message"]) == (
        "INVALID_REQUEST",
        "label already in use: Briefing",
    )
    assert (await peer.call("sessions.resolve", {"label": "Briefing"}))["key"] == child
    error = await refusal(peer, "sessions.patch", {"key": "main", "thinkingLevel": "banana"})
    assert error["message"].lower().startswith("invalid thinkinglevel")
    error = await refusal(peer, "sessions.patch", {"key": "main", "spawnedBy": child})
    assert error["code"] == "INVALID_REQUEST"
    error = await refusal(peer, "sessions.resolve", {"label": "nobody"})
    assert error["message"] == "No session found with label: nobody"
    error = await refusal(peer, "sessions.delete", {"key": "main"})
    assert error["message"] == "Cannot delete the main session (agent:main:main)."


async def test_a_changed_session_is_told_to_everybody_who_may_read(enter: Enter) -> None:
    async with enter() as peer, enter(scopes=READ) as reader:
        await peer.call("sessions.patch", {"key": "talk", "label": "Mine"})
        told = await reader.event("sessions.changed", key="agent:main:talk")
        assert told["payload"]["change"] == "patched"
        await reader.call("sessions.messages.subscribe", {"key": "talk"})
        await peer.call("chat.inject", {"sessionKey": "talk", "message": "By the way."})
        chat = await reader.event("chat", state="final")
        assert chat["payload"]["message"]["content"][0]["text"] == "By the way."


async def test_a_session_starts_over_shrinks_and_goes(peer: Peer) -> None:
    for text in ("one", "two"):
        await say(peer, "talk", text)
    compacted = await peer.call("sessions.compact", {"key": "talk", "maxLines": 2})
    assert (compacted["compacted"], compacted["kept"]) == (True, 2)
    before = (await peer.call("sessions.describe", {"key": "talk"}))["session"]
    reset = await peer.call("sessions.reset", {"key": "talk"})
    assert reset["entry"]["sessionId"] != before["sessionId"]
    kept = await peer.call("sessions.listTranscripts", {"sessionKey": "talk"})
    assert len(kept["transcripts"]) == 3
    assert (await peer.call("sessions.delete", {"key": "talk"}))["deleted"]
    assert (await peer.call("sessions.describe", {"key": "talk"})) == {"session": None}


async def test_what_a_writer_may_set_and_what_only_an_administrator(enter: Enter) -> None:
    async with enter(scopes=WRITE) as writer:
        assert (await writer.call("sessions.patch", {"key": "main", "label": "Mine"}))["ok"]
        for method, params in (
            ("sessions.patch", {"key": "main", "sendPolicy": "deny"}),
            ("sessions.reset", {"key": "main"}),
            ("sessions.compact", {"key": "main"}),
            ("sessions.delete", {"key": "x"}),
            ("agents.create", {"name": "x"}),
            ("agents.files.set", {"agentId": "main", "name": "SOUL.md", "content": ""}),
            ("config.patch", {"raw": "{}"}),
        ):
            error = await refusal(writer, method, params)
            assert (error["code"], error["details"]["code"]) == ("FORBIDDEN", "MISSING_SCOPE")


async def test_unknown_parameters_of_what_changes_something_are_named(peer: Peer) -> None:
    for method in ("agent", "chat.send", "sessions.patch", "sessions.create", "config.patch"):
        error = await refusal(peer, method, {"nope": 1})
        assert error["message"].startswith(f"invalid {method} params: ")
        assert "unexpected property 'nope'" in error["message"]


async def test_models_agents_and_commands_are_listed(peer: Peer) -> None:
    (model,) = (await peer.call("models.list", {}))["models"]
    assert (model["id"], model["provider"], model["contextWindow"]) == ("m", "fake", 200_000)
    told = await peer.call("agents.list")
    assert (told["defaultId"], told["mainKey"], told["scope"]) == ("main", "main", "per-sender")
    assert [row["id"] for row in told["agents"]] == ["main"]
    assert (await peer.call("commands.list", {"agentId": "main"}))["commands"]
    identity = await peer.call("agent.identity.get", {})
    assert identity["agentId"] == "main"


async def test_an_agent_is_made_asked_and_taken_away(peer: Peer) -> None:
    made = await peer.call("agents.create", {"name": "Ops"})
    assert made["agentId"] == "ops"
    sent = await peer.call("agent", {"message": "hi", "agentId": "ops", "idempotencyKey": "K"})
    assert sent["sessionKey"] == "agent:ops:main"
    written = {"agentId": "ops", "name": "SOUL.md", "content": "Kind."}
    await peer.call("agents.files.set", written)
    read = await peer.call("agents.files.get", {"agentId": "ops", "name": "SOUL.md"})
    assert read["file"]["content"] == "Kind."
    assert (await peer.call("agents.delete", {"agentId": "ops"}))["ok"]
    listed = await peer.call("agents.list")
    assert [row["id"] for row in listed["agents"]] == ["main"]
    error = await refusal(peer, "agents.delete", {"agentId": "main"})
    assert error["message"] == 'default agent "main" cannot be deleted'


async def test_the_configuration_is_shown_redacted_and_patched(
    served: Served, enter: Enter
) -> None:
    async with enter(scopes=READ) as reader:
        shown = await reader.call("config.get")
        assert SECRET not in json.dumps(shown)
        assert shown["path"] == "[redacted]"
        assert (await reader.call("config.schema"))["schema"]["properties"]
    async with enter() as peer:
        error = await refusal(peer, "config.patch", {"raw": "{ agents: {} }"})
        assert "base hash" in error["message"]
        raw = '{ agents: { list: [{ id: "main" }, { id: "ops" }] } }'
        told = await peer.call("config.patch", {"raw": raw, "baseHash": shown["hash"]})
        assert told["restart"]["ok"] is False
        stale = await refusal(peer, "config.patch", {"raw": raw, "baseHash": shown["hash"]})
        assert "changed since last load" in stale["message"]
        error = await refusal(peer, "config.apply", {"raw": "{", "baseHash": told["hash"]})
        assert error["code"] == "INVALID_REQUEST"
        wrong = {"raw": "{ logging: { level: 'loud' } }", "baseHash": told["hash"]}
        error = await refusal(peer, "config.apply", wrong)
        assert error["details"]["issues"][0]["path"] == "logging.level"
    written = json.loads(served.config_path.read_text())
    assert written["gateway"]["auth"]["token"] == SECRET
    assert [entry["id"] for entry in written["agents"]["list"]] == ["main", "ops"]


async def test_a_session_that_is_not_to_be_written_to_is_not(peer: Peer) -> None:
    await peer.call("sessions.patch", {"key": "main", "sendPolicy": "deny"})

    with pytest.raises(Refused, match="send blocked by session policy"):
        await peer.call("sessions.send", {"key": "main", "message": "hi"})

    assert (await peer.call("runs.list"))["runs"] == []


async def test_the_configuration_says_which_sessions_may_be_written_to(
    tmp_path: Path, provider: FakeProvider
) -> None:
    denied = {"action": "deny", "match": {"channel": "discord", "chatType": "group"}}
    content = config(provider.base_url, session={"sendPolicy": {"rules": [denied]}})
    async with serving(tmp_path, content) as served, connected(served.client, SECRET) as peer:
        message = {"key": "discord:group:dev", "message": "hi"}
        error = await refusal(peer, "sessions.send", message)
        assert error["message"].startswith("send blocked by session policy")
        await say(peer, "discord:dm:me")
