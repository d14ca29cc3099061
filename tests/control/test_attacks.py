"""What a stranger, or a client with less than all scopes, tries, and does not get."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from opensoul.adapters.transports.control import transport
from opensoul.adapters.transports.control.broadcast.subscriptions import MAX_SESSIONS
from opensoul.adapters.transports.control.connection.half_open import MAX_PER_ADDRESS
from opensoul.app.server.hypercorn import ServerConfig
from opensoul.domain.access.lockout import owner_of
from tests.app.serving import SECRET, Served
from tests.control.client import PATIENCE, Peer, Refused, connected
from tests.control.conftest import Enter
from tests.control.signing import connected_device
from tests.fakes.devices import ADMIN, Device
from tests.websocket.shaking import SECRET as GATEWAY
from tests.websocket.shaking import Bench


async def _connections(served: Served) -> int:
    """TCP connections that the Gateway holds open, told by the tasks that serve them."""
    names = (task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]
    return sum("_server_callback" in name for name in names)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX-Half: "])
async def test_who_connects_and_leaves_without_a_request_costs_nothing(
    served: Served, sent: bytes
) -> None:
    port = int(served.url.rpartition(":")[2])
    before = await _connections(served)
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(PATIENCE), connected(served.client, SECRET) as peer:
        while await _connections(served) > before + 1:
            await peer.call("health")


async def test_the_head_of_a_first_request_must_come_in_time_but_not_of_further_ones(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServerConfig, "first_request_seconds", 0.1)
    port = int(served.url.rpartition(":")[2])
    kept, keeping = await asyncio.open_connection("127.0.0.1", port)
    slow, slowly = await asyncio.open_connection("127.0.0.1", port)
    slowly.write(b"GET / HTTP/1.1\r\nX-Half: ")
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            keeping.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await kept.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await kept.readexactly(length)
            assert await slow.read() == b""
    for writer in (keeping, slowly):
        writer.close()
        await writer.wait_closed()


def test_the_addresses_of_one_ipv6_network_are_one_stranger() -> None:
    assert owner_of("2001:db8::1") == owner_of("2001:db8::ffff:2") != owner_of("2001:db8:1::1")
    assert owner_of("203.0.113.1") != owner_of("203.0.113.2")


async def test_strangers_of_one_address_replace_their_own_oldest(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_REPLACED_SECONDS", 0)
    sockets = [await served.client.ws_connect("/") for _ in range(MAX_PER_ADDRESS)]
    async with asyncio.timeout(PATIENCE), connected(served.client, SECRET) as peer:
        assert (await sockets[0].receive()).type is aiohttp.WSMsgType.TEXT  # the challenge
        closing = await sockets[0].receive()
        assert (closing.data, closing.extra) == (1013, "replaced by a newer connection")
        # Let in, it takes no place among them any more.
        sockets.append(await served.client.ws_connect("/"))
        assert await peer.call("health")
    for socket in sockets:
        await socket.close()


@pytest.mark.parametrize(
    "header", ["X-Forwarded-Port", "Via", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP"]
)
async def test_a_device_behind_an_unlisted_proxy_is_not_local(served: Served, header: str) -> None:
    async with aiohttp.ClientSession(served.url, headers={header: "198.51.100.1"}) as outside:
        with pytest.raises(Refused, match="pairing required"):
            async with connected_device(outside, Device(), SECRET):
                pass


async def test_a_connection_without_scopes_is_told_no_content(enter: Enter) -> None:
    async with enter() as peer, enter(scopes=[]) as nobody, enter(scopes=["operator.read"]) as one:
        await peer.call("wake", {"text": "look"})
        assert (await one.event("heartbeat"))["payload"]["preview"] == "Hello!"
        with pytest.raises(Refused, match=r"missing scope: operator\.read"):
            await nobody.call("health")
        assert not {"health", "heartbeat"} & {frame["event"] for frame in nobody.events}
        assert not {"health", "heartbeat"} & set(nobody.hello["features"]["events"])


async def test_where_the_log_is_is_for_administrators(served: Served, enter: Enter) -> None:
    path = str(served.config_path.parent / "gateway.log")
    served.configure(json.loads(served.config_path.read_text()) | {"logging": {"file": path}})
    async with enter(scopes=["operator.read"]) as reader, enter() as admin:
        assert (await reader.call("logs.tail"))["file"] == "[redacted]"
        assert (await admin.call("logs.tail"))["file"] == path


async def test_a_client_cannot_be_told_of_sessions_without_end(peer: Peer) -> None:
    for number in range(MAX_SESSIONS):
        peer.send("sessions.messages.subscribe", {"key": f"k{number}"})
        if number % 200 == 0:
            await peer.call("health")
    with pytest.raises(Refused, match="which is the limit"):
        await peer.call("sessions.messages.subscribe", {"key": "one more"})
    assert (await peer.call("sessions.messages.subscribe", {"key": "k1"}))["subscribed"]
    await peer.call("sessions.messages.unsubscribe", {"key": "k2"})
    assert (await peer.call("chat.history", {"sessionKey": "one more"}))["messages"] == []


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("device.pair.remove", {}),
        ("device.token.revoke", {"role": "operator"}),
        ("device.token.rotate", {"role": "operator", "scopes": []}),
    ],
)
async def test_who_may_pair_cannot_lock_out_who_may_more(
    served: Served, enter: Enter, method: str, more: dict[str, Any]
) -> None:
    admin = Device()
    async with connected_device(served.client, admin, SECRET, scopes=["operator.admin"]) as held:
        async with enter(scopes=["operator.pairing"]) as lesser:
            with pytest.raises(Refused, match=r"missing scope: operator\.admin"):
                await lesser.call(method, {"deviceId": admin.id, **more})
        assert (await held.call("health"))["ok"]


async def test_a_device_gives_up_its_own_token_without_any_scope_but_pairing(
    served: Served,
) -> None:
    device, scopes = Device(), ["operator.pairing", "operator.read"]
    async with connected_device(served.client, device, SECRET, scopes=scopes) as peer:
        peer.send("device.token.revoke", {"deviceId": device.id, "role": "operator"})
        assert await peer.closed() == (4001, "device token revoked")


@pytest.mark.parametrize(
    "word", ["/new", "\n/new", "/RESET\t", "\u00a0/reset\u2028", "\x1f/new", "/neW\x85"]
)
@pytest.mark.parametrize(
    ("method", "name"),
    [("chat.send", "sessionKey"), ("sessions.send", "key"), ("agent", "sessionKey")],
)
async def test_who_may_only_write_starts_no_session_over(
    enter: Enter, method: str, name: str, word: str
) -> None:
    async with enter(scopes=["operator.write"]) as writer:
        with pytest.raises(Refused, match=r"missing scope: operator\.admin"):
            await writer.call(method, {name: "main", "message": word, "idempotencyKey": "k"})


async def test_a_token_that_is_replaced_while_its_device_enters_does_not_stay() -> None:
    bench, device = await Bench().open(), Device()
    paired = await bench.admit(bench.signed(device, token=GATEWAY, scopes=["operator.read"]))
    assert paired.minted is not None
    admitted = await bench.admit(
        bench.signed(device, auth={"deviceToken": paired.minted.token}, scopes=["operator.read"])
    )
    assert bench.stands(admitted)
    await bench.devices.rotate(ADMIN, device.id, "operator")
    assert not bench.stands(admitted)


async def test_nobody_takes_a_devices_place_among_who_is_connected(
    served: Served, enter: Enter
) -> None:
    device = Device()
    spoof = {"id": "test", "version": "1", "platform": "x", "mode": "test"}
    spoof |= {"instanceId": device.id.upper(), "displayName": "me"}
    async with connected_device(served.client, device, SECRET) as peer, enter(client=spoof):
        shown = await peer.call("system-presence")
    assert [one["deviceId"] for one in shown if "deviceId" in one] == [device.id]
    assert any(one["host"] == "me" for one in shown)
