"""Keys, devices and lockouts of several Gateways over one database: each knows what another one has
changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.app.grants import first_text, rest
from tests.app.keyed import administer, ask, asked, bearer, content, created, entered, provider
from tests.app.nodes import serving_nodes
from tests.app.quiet_nodes import never, without_messages
from tests.app.serving import SECRET, Served
from tests.control.client import Refused, connected, knocking
from tests.control.signing import challenged, connected_device, signed
from tests.fakes.behaviours import hang_after
from tests.fakes.devices import Device
from tests.fakes.provider import FakeProvider

__all__ = ["provider"]

READ = ["operator.read"]
REMOTE = {"X-Forwarded-For": "203.0.113.9"}


@pytest_asyncio.fixture
async def nodes(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> AsyncIterator[list[Served]]:
    whole = content(provider)
    whole["gateway"]["trustedProxies"] = ["127.0.0.1"]
    async with serving_nodes(tmp_path, emptied_postgres, whole, parts=never) as nodes:
        yield nodes


async def test_a_key_of_one_node_is_accepted_by_the_other_at_once(nodes: list[Served]) -> None:
    key = await created(nodes[0], "web")
    assert (await asked(nodes[1], key)).status == 200
    assert (await asked(nodes[1], "osk_another")).status == 401


@pytest.mark.parametrize("parts", [never, without_messages])
@pytest.mark.parametrize(("method", "reason"), [("revoke", "revoked"), ("rotate", "rotated")])
async def test_a_key_that_ends_at_one_node_ends_what_uses_it_at_the_other(
    emptied_postgres: str,
    tmp_path: Path,
    provider: FakeProvider,
    method: str,
    reason: str,
    parts: Any,
) -> None:
    provider.will(hang_after("Hel"))
    async with serving_nodes(tmp_path, emptied_postgres, content(provider), parts=parts) as (
        one,
        other,
    ):
        key = await created(one, "lost")
        async with entered(other, key) as peer, ask(other, key, stream=True) as stream:
            await first_text(stream)
            await administer(one, f"keys.{method}", key="lost")
            assert await peer.closed() == (4001, f"API key {reason}")
            assert f"no longer valid: API key {reason}" in await rest(stream)
        assert (await asked(other, key)).status == 401


async def test_changes_at_both_nodes_at_the_same_time_are_all_kept(nodes: list[Served]) -> None:
    names = [f"key-{number}" for number in range(8)]
    keys = await asyncio.gather(*(created(nodes[n % 2], name) for n, name in enumerate(names)))
    await asyncio.gather(
        *(administer(nodes[n % 2], "keys.revoke", key=name) for n, name in enumerate(names[:4]))
    )
    for node in nodes:
        listed = await administer(node, "keys.list")
        assert sorted(row["name"] for row in listed["keys"]) == names[4:]
        assert [(await asked(node, key)).status for key in keys[3:5]] == [401, 200]


async def test_of_two_keys_with_one_name_at_two_nodes_one_is_created(nodes: list[Served]) -> None:
    made = await asyncio.gather(*(created(node, "same") for node in nodes), return_exceptions=True)
    assert sorted(type(one).__name__ for one in made) == ["Refused", "str"]


async def models(node: Served, secret: str, *, forwarded: bool = True) -> int:
    """The status of a list of models, as requested from one address or from this machine."""
    headers = bearer(secret) | (REMOTE if forwarded else {})
    async with node.client.get("/v1/models", headers=headers) as response:
        return response.status


async def test_ten_wrong_secrets_spread_over_the_nodes_lock_out_at_all(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    whole = content(provider, rateLimit={"maxAttempts": 10})
    whole["gateway"]["trustedProxies"] = ["127.0.0.1"]
    async with serving_nodes(tmp_path, emptied_postgres, whole, parts=never) as nodes:
        for number in range(10):
            assert await models(nodes[number % 2], f"guess {number}") == 401
        for node in nodes:
            while (status := await models(node, SECRET)) == 200:
                pass  # Its copy of the lockouts is half a second old at most.
            assert status == 429
            assert await models(node, SECRET, forwarded=False) == 200


async def test_a_device_pairs_at_one_node_and_connects_at_the_other(nodes: list[Served]) -> None:
    device = Device()
    async with connected_device(nodes[0].client, device, SECRET, scopes=READ) as peer:
        token = peer.hello["auth"]["deviceToken"]
    async with connected_device(nodes[1].client, device, token, scopes=READ) as peer:
        assert (await peer.call("agents.list"))["agents"]


@pytest.mark.parametrize("parts", [never, without_messages])
@pytest.mark.parametrize("method", ["device.token.revoke", "device.pair.remove"])
async def test_a_device_revoked_at_one_node_is_disconnected_and_refused_at_the_other(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider, method: str, parts: Any
) -> None:
    device = Device()
    params = {"deviceId": device.id}
    if method == "device.token.revoke":
        params["role"] = "operator"
    async with serving_nodes(tmp_path, emptied_postgres, content(provider), parts=parts) as (
        one,
        other,
    ):
        async with connected_device(one.client, device, SECRET, scopes=READ) as peer:
            token = peer.hello["auth"]["deviceToken"]
        async with connected_device(other.client, device, token, scopes=READ) as peer:
            await administer(one, method, **params)
            assert (await peer.closed())[0] == 4001
        async with knocking(other.client) as peer:
            nonce = await challenged(peer)
            with pytest.raises(Refused):
                await peer.call("connect", signed(device, nonce, token, scopes=READ))


async def test_a_request_for_pairing_at_one_node_is_seen_and_decided_at_the_other(
    nodes: list[Served],
) -> None:
    device = Device()
    options: dict[str, Any] = {"headers": REMOTE, "scopes": READ}
    async with (
        connected(nodes[0].client, SECRET) as watching,
        connected(nodes[1].client, SECRET) as operator,
    ):
        with pytest.raises(Refused, match="pairing required"):
            async with connected_device(nodes[0].client, device, SECRET, **options):
                pass
        request = (await operator.event("device.pair.requested"))["payload"]
        assert request["deviceId"] == device.id
        await operator.call("device.pair.approve", {"requestId": request["requestId"]})
        resolved = await watching.event("device.pair.resolved")
        assert resolved["payload"]["decision"] == "approved"
    async with connected_device(nodes[0].client, device, SECRET, **options) as peer:
        assert peer.hello["auth"]["scopes"] == READ
