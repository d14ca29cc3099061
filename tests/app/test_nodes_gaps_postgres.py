"""What happens at one node while another one cannot hear of it reaches its clients all the same.

Nothing is looked for periodically here: a node that listens again makes up for what it has missed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.app.gaps import unheard
from tests.app.keyed import administer, asked, content, created, entered, provider
from tests.app.nodes import serving_nodes
from tests.app.quiet_nodes import never, without_messages
from tests.app.serving import SECRET, Served
from tests.control.client import connected
from tests.control.signing import connected_device
from tests.fakes.devices import Device
from tests.fakes.provider import FakeProvider
from tests.persistence.postgres_server import DIRECT

__all__ = ["provider"]

pytestmark = DIRECT
READ = ["operator.read"]
TALK = "agent:main:talk"


@pytest_asyncio.fixture
async def nodes(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> AsyncIterator[list[Served]]:
    async with serving_nodes(tmp_path, emptied_postgres, content(provider), parts=never) as nodes:
        yield nodes


async def test_a_change_of_a_session_is_told_once_after_the_gap(
    nodes: list[Served], emptied_postgres: str
) -> None:
    async with (
        connected(nodes[0].client, SECRET) as one,
        connected(nodes[1].client, SECRET) as other,
    ):

        async def rename(number: int) -> object:
            return await one.call("sessions.patch", {"key": "talk", "label": f"name {number}"})

        changes = await unheard(emptied_postgres, nodes, rename)
        for _ in range(changes):
            await other.event("sessions.changed", change="patched", key=TALK)
        # Those that are heard again, and those that are looked for, are known.
        await one.call("sessions.reset", {"key": "talk"})
        await other.event("sessions.changed", change="reset", key=TALK)
        for node in nodes:
            await node.container.control().look_at_other_nodes()
        for peer in (one, other):
            await peer.call("agents.list")
        told = [e["payload"]["change"] for e in other.events if e["event"] == "sessions.changed"]
        assert told == []
        told = [e["payload"]["change"] for e in one.events if e["event"] == "sessions.changed"]
        assert told == ["patched"] * changes + ["reset"]


async def test_an_injected_message_reaches_subscribers_after_the_gap(
    nodes: list[Served], emptied_postgres: str
) -> None:
    async with (
        connected(nodes[0].client, SECRET) as one,
        connected(nodes[1].client, SECRET) as other,
    ):
        await one.call("sessions.patch", {"key": "talk", "label": "a name"})
        await other.call("sessions.messages.subscribe", {"key": "talk"})

        async def inject(number: int) -> object:
            return await one.call(
                "chat.inject", {"sessionKey": "talk", "message": f"Message {number}."}
            )

        last = await unheard(emptied_postgres, nodes, inject)
        texts = []
        while f"Message {last}." not in texts:
            sent = (await other.event("chat", stopReason="injected"))["payload"]
            texts.append(sent["message"]["content"][0]["text"])
        assert texts == [f"Message {number}." for number in range(1, last + 1)]


async def test_a_change_is_found_by_looking_where_every_message_is_lost(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    async with (
        serving_nodes(
            tmp_path, emptied_postgres, content(provider), parts=without_messages
        ) as nodes,
        connected(nodes[0].client, SECRET) as one,
        connected(nodes[1].client, SECRET) as other,
    ):
        await nodes[1].container.control().look_at_other_nodes()
        await one.call("sessions.patch", {"key": "talk", "label": "a name"})
        await other.event("sessions.changed", change="patched", key=TALK)


async def test_a_key_that_is_revoked_in_a_gap_ends_at_the_other_node(
    nodes: list[Served], emptied_postgres: str
) -> None:
    keys = [await created(nodes[0], f"key {number}") for number in range(1, 4)]
    assert [(await asked(nodes[1], key)).status for key in keys] == [200] * 3

    async def revoke(number: int) -> object:
        return await administer(nodes[0], "keys.revoke", key=f"key {number}")

    async with (
        entered(nodes[1], keys[0]) as first,
        entered(nodes[1], keys[1]) as second,
        entered(nodes[1], keys[2]) as third,
    ):
        last = await unheard(emptied_postgres, nodes, revoke)
        peer = (first, second, third)[last - 1]
        assert await peer.closed() == (4001, "API key revoked")
    assert (await asked(nodes[1], keys[last - 1])).status == 401


async def test_a_device_that_is_revoked_in_a_gap_is_disconnected_at_the_other_node(
    nodes: list[Served], emptied_postgres: str
) -> None:
    device = Device()
    async with connected_device(nodes[0].client, device, SECRET, scopes=READ) as peer:
        token = peer.hello["auth"]["deviceToken"]
    async with connected_device(nodes[1].client, device, token, scopes=READ) as peer:

        async def revoke(number: int) -> object:
            assert number == 1, "the node was not deaf for as long as a revocation takes"
            params = {"deviceId": device.id, "role": "operator"}
            return await administer(nodes[0], "device.token.revoke", **params)

        await unheard(emptied_postgres, nodes, revoke)
        assert (await peer.closed())[0] == 4001
