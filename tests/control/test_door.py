"""Upgrades, handshakes, frames and ends of connections, byte by byte where it matters."""

from __future__ import annotations

import json

import aiohttp
import pytest

from tests.app.serving import SECRET, Served
from tests.control.client import Peer, Refused, connect_params, connected, knocking
from tests.control.conftest import Enter


async def test_the_gateway_speaks_first(served: Served) -> None:
    async with knocking(served.client) as peer:
        frame = await peer.event("connect.challenge")
        assert frame["payload"]["nonce"]
        assert isinstance(frame["payload"]["ts"], int)
        assert "seq" not in frame


@pytest.mark.parametrize("path", ["/", "/ws", "/v1/chat/completions", "/any/thing", "/healthz"])
async def test_any_path_will_do(served: Served, path: str) -> None:
    async with connected(served.client, SECRET, path) as peer:
        assert peer.hello["type"] == "hello-ok"


async def test_plain_http_is_as_before(served: Served) -> None:
    async with served.client.get("/any/thing") as response:
        assert response.status == 404
    async with served.client.post("/healthz") as response:
        assert response.status == 405


@pytest.mark.parametrize(
    ("least", "most", "spoken"), [(3, 3, 3), (4, 4, 4), (3, 4, 4), (1, 3, 3), (4, 9, 4)]
)
async def test_the_highest_common_version_is_spoken(
    served: Served, least: int, most: int, spoken: int
) -> None:
    async with connected(served.client, SECRET, minProtocol=least, maxProtocol=most) as peer:
        assert peer.hello["protocol"] == spoken
        assert ("host" in peer.hello["server"]) == (spoken == 3)


@pytest.mark.parametrize(("least", "most"), [(5, 6), (1, 2), (4, 3)])
async def test_no_common_version_is_told(served: Served, least: int, most: int) -> None:
    params = connect_params(SECRET) | {"minProtocol": least, "maxProtocol": most}
    async with knocking(served.client) as peer:
        with pytest.raises(Refused, match="protocol mismatch") as refused:
            await peer.call("connect", params)
        assert refused.value.error["details"]["code"] == "PROTOCOL_MISMATCH"
        assert refused.value.error["details"]["expectedProtocol"] == 4
        assert await peer.closed() == (1002, "protocol mismatch")


async def test_hello_has_all_that_clients_rely_on(enter: Enter) -> None:
    async with enter() as peer:
        hello = peer.hello
        assert hello["server"]["version"]
        assert hello["server"]["connId"]
        assert hello["snapshot"]["presence"]
        assert hello["snapshot"]["health"]["ok"] is True
        assert hello["snapshot"]["stateVersion"]["presence"] >= 1
        assert hello["snapshot"]["sessionDefaults"]["mainSessionKey"] == "agent:main:main"
        assert hello["snapshot"]["configPath"]
        assert hello["snapshot"]["stateDir"]
        assert hello["auth"]["role"] == "operator"
        assert "operator.admin" in hello["auth"]["scopes"]
        assert hello["policy"] == {
            "maxPayload": 25 * 1024 * 1024,
            "maxBufferedBytes": 16 * 1024 * 1024,
            "tickIntervalMs": 30_000,
        }
        assert "chat" in hello["features"]["events"]


async def test_paths_are_not_for_everybody(enter: Enter) -> None:
    async with enter(scopes=["operator.read"]) as peer:
        assert "configPath" not in peer.hello["snapshot"]
        assert "stateDir" not in peer.hello["snapshot"]


@pytest.mark.parametrize(
    ("token", "message", "code"),
    [
        ("wrong", "gateway token mismatch", "AUTH_TOKEN_MISMATCH"),
        ("ümlaut" + "é" * 5, "gateway token mismatch", "AUTH_TOKEN_MISMATCH"),
    ],
)
async def test_a_wrong_secret_is_told_in_the_answer_and_in_the_end(
    served: Served, token: str, message: str, code: str
) -> None:
    async with knocking(served.client) as peer:
        with pytest.raises(Refused, match=message) as refused:
            await peer.call("connect", connect_params(token))
        assert refused.value.error["details"]["code"] == code
        ended, reason = await peer.closed()
        assert ended == 1008
        assert message in reason


async def test_without_secret_and_device_nobody_is_let_in(served: Served) -> None:
    async with knocking(served.client) as peer:
        with pytest.raises(Refused) as refused:
            await peer.call("connect", connect_params(None))
        assert refused.value.error["code"] in ("NOT_PAIRED", "INVALID_REQUEST")
        assert (await peer.closed())[0] == 1008


@pytest.mark.parametrize(
    "text",
    ["no json", "[]", '{"type":"event","event":"x"}', '{"type":"req","id":"","method":"connect"}'],
)
async def test_what_is_no_request_ends_a_handshake(served: Served, text: str) -> None:
    async with knocking(served.client) as peer:
        await peer.socket.send_str(text)
        assert await peer.closed() == (1008, "invalid request frame")


async def test_connect_without_its_parameters_is_told_what_is_missing(served: Served) -> None:
    async with knocking(served.client) as peer:
        with pytest.raises(Refused, match=r"invalid connect params: .*client"):
            await peer.call("connect", {"minProtocol": 3, "maxProtocol": 4})
        code, reason = await peer.closed()
        assert code == 1008
        assert reason.startswith("invalid connect params")


async def test_after_the_handshake_a_bad_frame_is_answered_and_nothing_else_happens(
    peer: Peer,
) -> None:
    for text, told in (
        ("no json", "invalid"),
        ('{"type":"req","id":"7","method":"health","more":1}', "7"),
        ("[1]", "invalid"),
    ):
        await peer.socket.send_str(text)
        with pytest.raises(Refused, match="invalid request frame") as refused:
            await peer.answer(told)
        assert refused.value.error["code"] == "INVALID_REQUEST"
    await peer.socket.send_bytes(b"{}")
    with pytest.raises(Refused, match="binary"):
        await peer.answer("invalid")
    assert (await peer.call("health"))["ok"] is True


async def test_a_second_connect_is_refused(peer: Peer) -> None:
    with pytest.raises(Refused, match="only valid as the first request"):
        await peer.call("connect", connect_params(SECRET))


async def test_parameters_of_another_shape_are_named(peer: Peer) -> None:
    with pytest.raises(Refused, match=r"invalid wake params: .*unexpected property 'x'"):
        await peer.call("wake", {"text": "look", "x": 1})
    with pytest.raises(Refused, match=r"invalid models\.list params: at /view"):
        await peer.call("models.list", {"view": 1})


@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ({}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Host": "evil.example"}, False),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, False),
    ],
)
async def test_other_peoples_pages_do_not_get_in(
    served: Served, headers: dict[str, str], admitted: bool
) -> None:
    if admitted:
        async with connected(served.client, SECRET) as peer:
            assert peer.hello
        return
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with served.client.ws_connect("/", headers=headers):
            pass
    assert refused.value.status == 403


async def test_a_page_of_this_very_host_gets_in(served: Served) -> None:
    async with knocking(served.client, headers={"Origin": served.url}) as peer:
        await peer.event("connect.challenge")
        assert await peer.call("connect", connect_params(SECRET))


async def test_a_big_message_before_the_handshake_is_cut_short(served: Served) -> None:
    async with knocking(served.client) as peer:
        params = connect_params(SECRET) | {"userAgent": "x" * 70_000}
        text = json.dumps({"type": "req", "id": "1", "method": "connect", "params": params})
        await peer.socket.send_str(text)
        assert await peer.closed() == (1009, "preauth payload too large")


async def test_presence_shows_who_comes_and_goes(enter: Enter) -> None:
    client = {
        "id": "fingerprint",
        "displayName": "Kitchen",
        "version": "9.9",
        "platform": "linux",
        "deviceFamily": "Pi",
        "modelIdentifier": "4B",
        "mode": "ui",
        "instanceId": "kitchen-1",
    }
    async with enter() as watcher:
        async with enter(client=client):
            await watcher.event("presence")
            entries = await watcher.call("system-presence")
            entry = next(e for e in entries if e.get("instanceId") == "kitchen-1")
            assert entry["host"] == "Kitchen"
            assert entry["version"] == "9.9"
            assert entry["platform"] == "linux"
            assert entry["deviceFamily"] == "Pi"
            assert entry["modelIdentifier"] == "4B"
            assert entry["ip"] == "127.0.0.1"
            assert entry["reason"] == "connect"
        gone: dict[str, object] = {}
        while gone.get("reason") != "disconnect":
            frame = await watcher.event("presence")
            entries = frame["payload"]["presence"]
            gone = next((e for e in entries if e.get("instanceId") == "kitchen-1"), gone)
        assert frame["stateVersion"]["presence"] > 1


async def test_command_line_programs_are_not_in_the_presence(enter: Enter) -> None:
    client = {"id": "cli", "version": "1", "platform": "linux", "mode": "cli", "instanceId": "c"}
    async with enter(client=client) as peer:
        entries = await peer.call("system-presence")
        assert not [entry for entry in entries if entry.get("instanceId") == "c"]


async def test_a_system_event_reaches_everybody(enter: Enter) -> None:
    async with enter() as one, enter() as two, enter() as three:
        sent = {"text": "the door is open", "instanceId": "source", "mode": "sensor"}
        assert await one.call("system-event", sent) == {"ok": True}
        for peer in (one, two, three):
            while True:
                frame = await peer.event("presence")
                told = [e for e in frame["payload"]["presence"] if e.get("mode") == "sensor"]
                if told:
                    break
            assert told[0]["text"] == "the door is open"
            assert frame["seq"] >= 1
            assert frame["stateVersion"]["presence"] > 0


async def test_a_changed_secret_ends_the_connections_that_it_let_in(
    served: Served, peer: Peer
) -> None:
    config = json.loads(served.config_path.read_text())
    config["gateway"]["auth"]["token"] = "another secret"
    served.configure(config)

    assert await peer.closed() == (4001, "gateway auth changed")
    async with connected(served.client, "another secret") as again:
        assert again.hello


async def test_stopping_tells_everybody_and_closes_with_a_reason(
    served: Served, peer: Peer
) -> None:
    served.container.control().begin_shutdown()
    assert (await peer.event("shutdown"))["payload"]["reason"]
    await served.container.control().hub.close()
    assert await peer.closed() == (1012, "service restart")


async def test_the_log_can_be_read(peer: Peer) -> None:
    tail = await peer.call("logs.tail", {"limit": 5})
    assert len(tail["lines"]) <= 5
    later = await peer.call("logs.tail", {"cursor": tail["cursor"]})
    assert later["cursor"] >= tail["cursor"]
    assert (await peer.call("logs.tail", {"cursor": 10**9}))["reset"] is True


async def test_waking_the_agent_tells_everybody_how_it_went(enter: Enter) -> None:
    async with enter() as one, enter(scopes=["operator.read"]) as two:
        assert await one.call("last-heartbeat") is None
        woken = await one.call("wake", {"mode": "now", "text": "look at the oven"})
        for peer in (one, two):
            told = (await peer.event("heartbeat"))["payload"]
            assert told["status"] == "sent"
            assert told["preview"] == "Hello!"
        assert (await two.call("last-heartbeat"))["runId"] == woken["runId"]
        assert (await one.call("set-heartbeats", {"enabled": False}))["enabled"] is False
        with pytest.raises(Refused, match="switched off"):
            await one.call("wake", {"text": "again"})


async def test_usage_is_counted_by_day(served: Served, peer: Peer) -> None:
    await served.text(user="alice")

    cost = await peer.call("usage.cost", {"days": 2})
    assert cost["totals"]["turns"] == 1
    assert cost["totals"]["totalTokens"] > 0
    assert len(cost["daily"]) == 1
    assert (await peer.call("usage.status"))["lastDay"]["turns"] == 1
