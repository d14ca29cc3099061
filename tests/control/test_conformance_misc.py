"""Health, configuration, presence and frames, row by row of the family's conformance list."""

from __future__ import annotations

import json
import random
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.transports.control.protocol.problems import INTERNAL_ERROR
from tests.app.serving import SECRET, Served, config, hurried, serving
from tests.app.serving import provider as provider_section
from tests.control.client import Peer, Refused, connect_params, connected, knocking
from tests.control.conftest import Enter
from tests.control.signing import connected_device
from tests.fakes.behaviours import hang_after
from tests.fakes.devices import Device
from tests.fakes.provider import FakeProvider

READ = ["operator.read"]
BOB = "agent:main:openai-user:bob"
HIDDEN = "__OPENSOUL_REDACTED__"
NOT_AT_RANDOM = ("gateway.stop", "config.set", "config.apply", "config.patch", "agents.delete")
SANE: dict[str, Any] = {"key": "talk", "sessionKey": "talk", "keys": ["talk"], "enabled": True}
ODD: tuple[Any, ...] = (
    *("", " ", "main", "../x", "agent::", ":::", "agent:nobody:x", "\0", "\ud800", "é" * 200, "1"),
    *("global", "unknown", "AGENT:MAIN:MAIN", "'; drop table sessions; --", "%", '"', "9" * 15),
    *(0, -1, 1, 2**63, 2**70, 1.5, 1e300, True, None, [], ["main"], {}, {"a": 1}),
)


async def refusal(peer: Peer, method: str, params: Any = None) -> dict[str, Any]:
    with pytest.raises(Refused) as caught:
        await peer.call(method, params)
    error: dict[str, Any] = caught.value.error
    return error


async def message(peer: Peer, method: str, params: Any) -> str | None:
    """The words of a refusal; None where there is none."""
    try:
        await peer.call(method, params)
    except Refused as refused:
        return str(refused.error["message"])
    return None


async def base_hash(peer: Peer) -> str:
    told: str = (await peer.call("config.get"))["hash"]
    return told


@asynccontextmanager
async def with_text(home: Path, text: str) -> AsyncIterator[tuple[Served, Peer]]:
    """A Gateway whose configuration is this text as it stands, and a client of it."""
    async with serving(home, config()) as served, connected(served.client, SECRET) as peer:
        served.config_path.write_text(text)
        yield served, peer


async def test_how_things_stand_is_told(peer: Peer) -> None:
    health = await peer.call("health")
    assert (health["ok"], health["defaultAgentId"]) == (True, "main")
    assert health["channels"] == {}
    assert [agent["agentId"] for agent in health["agents"]] == ["main"]
    status = await peer.call("status")
    assert status["runtimeVersion"]
    assert status["sessions"]["count"] == 0
    presence = await peer.call("system-presence")
    assert isinstance(presence, list)
    assert presence[0]["reason"] == "self"
    assert (await peer.call("channels.status"))["channels"] == {}


async def test_servers_of_tools_are_listed_and_none_is_started(tmp_path: Path) -> None:
    servers = {"one": {"command": "no-such-program"}, "two": {"url": "http://x/", "enabled": False}}
    async with (
        serving(tmp_path, config(mcp={"servers": servers})) as served,
        connected(served.client, SECRET) as peer,
    ):
        status = await peer.call("status")
    assert status["mcp"] == {
        "servers": [{"name": "one", "state": "idle"}, {"name": "two", "state": "disabled"}]
    }


async def test_where_things_are_is_not_told_to_readers(enter: Enter) -> None:
    async with enter(scopes=READ) as reader:
        status = await reader.call("status")
        listed = await reader.call("sessions.list")
    assert status["sessions"]["paths"] == []
    assert listed["path"] == "[redacted]"


async def test_heartbeats_are_told_and_can_be_switched_off(enter: Enter) -> None:
    async with enter() as one, enter(scopes=READ) as two:
        assert (await one.call("set-heartbeats", {"enabled": False})) == {
            "ok": True,
            "enabled": False,
        }
        await one.call("set-heartbeats", {"enabled": True})
        await one.call("wake", {"mode": "next-heartbeat", "text": "the bell rang"})
        await one.call("wake", {"mode": "now", "text": "look"})
        told = (await two.event("heartbeat"))["payload"]
        assert told == await two.call("last-heartbeat")
        history = await two.call("chat.history", {"sessionKey": "main"})
    asked = history["messages"][0]["content"][0]["text"]
    assert "the bell rang" in asked
    assert "look" in asked


async def test_a_tick_shows_that_the_connection_lives(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, config(), supervisor=hurried()) as served,
        connected(served.client, SECRET, scopes=[]) as peer,
    ):
        first, second = await peer.event("tick"), await peer.event("tick")
    assert isinstance(first["payload"]["ts"], int)
    assert second["seq"] == first["seq"] + 1


async def test_a_device_that_shows_itself_is_in_the_presence_with_its_id(
    served: Served, peer: Peer
) -> None:
    device = Device()
    client = {
        "id": "fingerprint",
        "version": "9.9.9",
        "platform": "test",
        "deviceFamily": "iPad",
        "modelIdentifier": "iPad16,6",
        "mode": "ui",
        "instanceId": "abc",
    }
    async with connected_device(served.client, device, SECRET, client=client, scopes=READ):
        presence = await peer.call("system-presence")
    (entry,) = [entry for entry in presence if entry.get("instanceId") == "abc"]
    assert entry["deviceId"] == device.id
    shown = ("ip", "host", "version", "platform", "deviceFamily", "modelIdentifier")
    assert {name: entry[name] for name in shown} == {
        "ip": "127.0.0.1",
        "host": "fingerprint",
        "version": "9.9.9",
        "platform": "test",
        "deviceFamily": "iPad",
        "modelIdentifier": "iPad16,6",
    }
    assert (entry["roles"], entry["scopes"]) == (["operator"], READ)


async def test_numbers_count_what_this_connection_was_told_and_nothing_else(
    served: Served, enter: Enter
) -> None:
    async with enter() as peer, enter(scopes=[]) as stranger, enter(scopes=READ) as reader:
        await peer.call("sessions.subscribe")
        await reader.call("sessions.messages.subscribe", {"key": BOB})
        for user in ("alice", "bob", "carol"):
            await served.text(user=user)
        for one in (peer, reader):
            await one.until(partial(_has_bobs_final, one))
            numbers = [frame["seq"] for frame in one.events if "seq" in frame]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert {_session(frame) for frame in reader.events} <= {None, BOB}
        assert not [frame for frame in stranger.events if frame["event"] != "tick"]


def _session(frame: dict[str, Any]) -> str | None:
    found = frame["payload"].get("sessionKey") if frame["event"] in ("agent", "chat") else None
    return None if found is None else str(found)


def _has_bobs_final(peer: Peer) -> bool:
    told = [frame["payload"] for frame in peer.events if _session(frame) == BOB]
    return any(payload.get("state") == "final" for payload in told)


async def test_health_is_told_at_intervals_with_its_version(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, config(), supervisor=hurried()) as served,
        connected(served.client, SECRET, scopes=READ) as peer,
    ):
        first, second = await peer.event("health"), await peer.event("health")
    assert first["payload"]["ok"] is True
    assert second["stateVersion"]["health"] > first["stateVersion"]["health"]


async def test_what_is_asked_right_behind_connect_is_answered_after_it(served: Served) -> None:
    async with knocking(served.client) as peer:
        asked = [peer.send("connect", connect_params(SECRET))]
        asked += [peer.send("health") for _ in range(5)]
        for request in asked:
            assert await peer.answer(request)


async def test_stopping_is_told_with_a_reason_before_the_end(served: Served, enter: Enter) -> None:
    async with enter(scopes=[]) as peer:
        served.container.control().begin_shutdown()
        assert (await peer.event("shutdown"))["payload"]["reason"]
        async with knocking(served.client) as late:
            await late.event("connect.challenge")
            error = await refusal(late, "connect", connect_params(SECRET))
            assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
            assert (await late.closed())[0] == 1012
        await served.container.control().hub.close()
        assert await peer.closed() == (1012, "service restart")


async def test_a_frame_is_taken_with_a_trace_and_refused_with_one_that_is_too_long(
    peer: Peer,
) -> None:
    frame = {"type": "req", "id": "7", "method": "health", "traceparent": "not one at all"}
    await peer.socket.send_str(json.dumps(frame))
    assert (await peer.answer("7"))["ok"] is True
    await peer.socket.send_str(json.dumps({**frame, "id": "8", "traceparent": "x" * 129}))
    with pytest.raises(Refused, match="invalid request frame"):
        await peer.answer("8")


async def test_a_request_without_parameters_is_one_with_empty_ones(peer: Peer) -> None:
    await peer.socket.send_str('{"type":"req","id":"7","method":"models.list"}')
    assert (await peer.answer("7"))["models"]


async def test_models_are_listed_by_provider_and_name(
    tmp_path: Path, provider: FakeProvider
) -> None:
    models = {
        "zeta": provider_section(provider.base_url, "b", "a"),
        "fake": provider_section(provider.base_url, "m"),
    }
    content = config(provider.base_url, models={"providers": models})
    async with serving(tmp_path, content) as served, connected(served.client, SECRET) as peer:
        listed = (await peer.call("models.list", {}))["models"]
        assert [(one["provider"], one["id"]) for one in listed] == [
            ("fake", "m"),
            ("zeta", "a"),
            ("zeta", "b"),
        ]
        error = await refusal(peer, "models.list", {"provider": True})
        assert error["message"].startswith("invalid models.list params")
    assert provider.requests == []


async def test_agents_are_listed_with_the_default_one(
    tmp_path: Path, provider: FakeProvider
) -> None:
    agents = {
        "defaults": {"model": {"primary": "fake/m"}},
        "list": [{"id": "ops"}, {"id": "home", "default": True, "name": "Home"}],
    }
    content = config(provider.base_url, agents=agents)
    async with serving(tmp_path, content) as served, connected(served.client, SECRET) as peer:
        told = await peer.call("agents.list", {})
    assert (told["defaultId"], told["mainKey"], told["scope"]) == ("home", "main", "per-sender")
    assert [agent["id"] for agent in told["agents"]] == ["home", "ops"]


@pytest.mark.parametrize("method", ["node.event", "node.invoke.result"])
async def test_what_nodes_do_is_not_for_operators(peer: Peer, method: str) -> None:
    error = await refusal(peer, method, {})
    assert "unauthorized role" in error["message"]


async def test_sending_to_a_channel_says_that_there_are_none_however_often(peer: Peer) -> None:
    sent = {"to": "+1555", "message": "hi", "idempotencyKey": "K"}
    first = await refusal(peer, "send", sent)
    assert first["code"] == "UNAVAILABLE"
    assert "no chat channels" in first["message"]
    assert await refusal(peer, "send", sent) == first


@pytest.mark.parametrize("path", ["/hooks/wake", "/hooks/agent"])
async def test_there_are_no_hooks_and_that_is_said(served: Served, path: str) -> None:
    headers = served.authorization
    async with served.client.post(path, json={"text": "x"}, headers=headers) as response:
        assert response.status == 404


async def test_plain_http_is_told_of_no_method_that_only_upgrades_have(served: Served) -> None:
    headers = served.authorization
    for path in ("/v1/responses", "/", "/any/thing"):
        async with served.client.post(path, json={}, headers=headers) as response:
            assert (response.status, "Allow" in response.headers) == (404, False)
    async with served.client.delete("/v1/chat/completions", headers=headers) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_a_configuration_that_is_applied_is_written_and_in_force(
    served: Served, peer: Peer, provider: FakeProvider
) -> None:
    content = config(provider.base_url)
    content["agents"]["list"] = [{"id": "main"}, {"id": "ops"}]
    raw = json.dumps(content, indent=1)

    told = await peer.call("config.apply", {"raw": raw, "baseHash": await base_hash(peer)})

    assert told["ok"] is True
    assert served.config_path.read_text() == raw
    assert stat.S_IMODE(served.config_path.stat().st_mode) == 0o600
    assert [agent["id"] for agent in (await peer.call("agents.list"))["agents"]] == ["main", "ops"]
    asked = {"message": "hi", "agentId": "ops", "idempotencyKey": "K"}
    assert (await peer.call("agent", asked))["sessionKey"] == "agent:ops:main"


@pytest.mark.parametrize("method", ["config.apply", "config.set", "config.patch"])
async def test_what_cannot_be_read_is_refused_and_nothing_written(
    served: Served, peer: Peer, method: str
) -> None:
    before = served.config_path.read_bytes()
    for raw in ("{", '{ gateway: { port: "high" } }', "[]"):
        error = await refusal(peer, method, {"raw": raw, "baseHash": await base_hash(peer)})
        assert error["code"] == "INVALID_REQUEST"
    assert served.config_path.read_bytes() == before


@pytest.mark.parametrize("method", ["config.apply", "config.set", "config.patch"])
async def test_an_edit_says_what_it_was_made_from(served: Served, peer: Peer, method: str) -> None:
    missing = await refusal(peer, method, {"raw": "{}"})
    assert missing["message"].startswith("config base hash required")
    stale = await refusal(peer, method, {"raw": "{}", "baseHash": "0" * 64})
    assert stale["message"].startswith("config changed since last load")


async def test_a_missing_file_is_written_without_a_hash(
    served: Served, peer: Peer, provider: FakeProvider
) -> None:
    served.config_path.unlink()
    raw = json.dumps(config(provider.base_url))

    assert (await peer.call("config.set", {"raw": raw}))["ok"] is True

    assert served.config_path.read_text() == raw


async def test_a_patch_leaves_the_rest_and_the_secret_alone(served: Served, peer: Peer) -> None:
    shown = await peer.call("config.get")
    assert shown["config"]["gateway"]["auth"]["token"] == HIDDEN
    raw = '{ agents: { defaults: { timeoutSeconds: 42 } }, gateway: { auth: { token: "%s" } } }'

    await peer.call("config.patch", {"raw": raw % HIDDEN, "baseHash": shown["hash"]})

    written = json.loads(served.config_path.read_text())
    assert written["agents"]["defaults"]["timeoutSeconds"] == 42
    assert written["agents"]["defaults"]["model"] == {"primary": "fake/m"}
    assert written["gateway"]["auth"]["token"] == SECRET
    assert (await peer.call("health"))["ok"] is True  # The secret that let us in still stands.
    raw = "{ agents: { defaults: { timeoutSeconds: null } } }"
    await peer.call("config.patch", {"raw": raw, "baseHash": await base_hash(peer)})
    assert "timeoutSeconds" not in json.loads(served.config_path.read_text())["agents"]["defaults"]


async def test_what_was_shown_hidden_is_put_back(served: Served, peer: Peer) -> None:
    shown = await peer.call("config.get")
    assert HIDDEN in shown["raw"]

    await peer.call("config.set", {"raw": shown["raw"], "baseHash": shown["hash"]})

    assert json.loads(served.config_path.read_text())["gateway"]["auth"]["token"] == SECRET
    nowhere = json.dumps({"models": {"providers": {"other": {"apiKey": HIDDEN}}}})
    patch = {"raw": nowhere, "baseHash": await base_hash(peer)}
    assert (await refusal(peer, "config.patch", patch))["code"] == "INVALID_REQUEST"


async def test_a_patch_keeps_comments_variables_and_includes(tmp_path: Path) -> None:
    (tmp_path / "agents.json5").write_text("{ defaults: { model: { primary: 'fake/m' } } }")
    text = """{
  // who may come in
  gateway: { auth: { token: "a secret of the tests" } },
  agents: { $include: "./agents.json5" },
  models: { providers: { fake: {
    baseUrl: "http://127.0.0.1:9/v1", apiKey: "${OPENSOUL_STATE_DIR}", models: [{ id: "m" }],
  } } },
}
"""
    async with with_text(tmp_path, text) as (served, peer):
        raw = '{ logging: { level: "debug" } }'
        await peer.call("config.patch", {"raw": raw, "baseHash": await base_hash(peer)})
        written = served.config_path.read_text()
        for kept in ("// who may come in", '$include: "./agents.json5"', '"${OPENSOUL_STATE_DIR}"'):
            assert kept in written
        assert "debug" in written
        included = {
            "raw": "{ agents: { defaults: { timeoutSeconds: 3 } } }",
            "baseHash": await base_hash(peer),
        }
        error = await refusal(peer, "config.patch", included)
        assert "agents.json5" in error["message"]


async def test_five_earlier_files_are_kept(served: Served, peer: Peer) -> None:
    for seconds in range(10, 17):
        raw = f"{{ agents: {{ defaults: {{ timeoutSeconds: {seconds} }} }} }}"
        await peer.call("config.patch", {"raw": raw, "baseHash": await base_hash(peer)})

    backups = [path for path in served.config_path.parent.iterdir() if ".bak" in path.name]
    assert len(backups) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in backups} == {0o600}


async def test_a_run_in_flight_ends_with_what_it_was_accepted_with(
    served: Served, peer: Peer, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    request = peer.send("agent", {"message": "hi", "agentId": "main", "idempotencyKey": "K"})
    await peer.answer(request)
    await peer.event("agent", stream="assistant")
    raw = "{ agents: { defaults: { timeoutSeconds: 5 } } }"
    await peer.call("config.patch", {"raw": raw, "baseHash": await base_hash(peer)})
    assert (await peer.call("runs.get", {"runId": "K"}))["status"] == "running"
    assert (await peer.call("runs.abort", {"runId": "K"}))["aborted"] is True
    assert (await peer.answer(request))["status"] == "aborted"


async def test_compression_is_not_taken_though_it_is_offered(served: Served) -> None:
    async with served.client.ws_connect("/", compress=15) as socket:
        assert socket.compress == 0


async def test_no_parameters_bring_out_an_internal_error(served: Served, peer: Peer) -> None:
    await peer.call("sessions.create", {"key": "talk"})
    chance = random.Random(7)  # noqa: S311 - the same every time is what is wanted
    for name, handler in sorted(served.container.control().handlers().items()):
        if name in NOT_AT_RANDOM:
            continue
        fields = {field.alias or key: field for key, field in handler.params.model_fields.items()}
        for number in range(4):
            params: dict[str, Any] = {
                key: SANE.get(key, "x") for key, field in fields.items() if field.is_required()
            }
            if "idempotencyKey" in fields:
                params["idempotencyKey"] = f"{name}-{number}"
            changed = chance.sample(sorted(fields), min(len(fields), chance.randint(0, 3)))
            params |= {key: chance.choice(ODD) for key in changed}
            told = await message(peer, name, params)
            assert told != INTERNAL_ERROR.message, (name, params)
