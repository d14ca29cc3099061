"""How much a message may be, and what happens to what is more."""

from __future__ import annotations

from typing import Any

import pytest
from quart import Quart

from opensoul.adapters.transports.control.connection.inbound import BoundedConnection
from opensoul.adapters.transports.control.protocol.socket_control import EXTENSION, NoWire
from tests.websocket.client import CONTINUATION, TEXT, RawClient, close_frame, frame, opened
from tests.websocket.serving import LARGER, Served

pytestmark = pytest.mark.both_loops

PREAUTH = 65_536


async def test_a_message_beyond_the_first_limit_is_refused(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(frame(TEXT, b"x" * (PREAUTH + 1)))
        assert await client.closing() == (1009, "preauth payload too large")
        await answered(client)
        await served.left.wait()
        assert served.taken == []


async def test_the_limit_counts_bytes_not_characters(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(frame(TEXT, "½".encode() * (PREAUTH // 2)))
        assert await client.text() == "½" * (PREAUTH // 2)
        client.send(frame(TEXT, "½".encode() * (PREAUTH // 2) + b"x"))
        assert (await client.closing())[0] == 1009


async def test_the_limit_holds_over_all_fragments_together(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(frame(TEXT, b"x" * 40_000, fin=False))
        client.send(frame(CONTINUATION, b"x" * 40_000, fin=False))
        assert (await client.closing())[0] == 1009


async def test_it_is_refused_before_it_has_come_whole(served: Served) -> None:
    async with opened(served.port) as client:
        whole = frame(TEXT, b"x" * 50_000_000)
        client.send(whole[: PREAUTH + 1_000])
        assert (await client.closing())[0] == 1009


async def test_the_client_can_read_why_while_it_is_still_sending(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(frame(TEXT, b"x" * 8_000_000))
        await client.writer.drain()
        assert (await client.closing())[0] == 1009
        await answered(client)


async def test_the_application_moves_the_limit_and_its_reason(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(frame(TEXT, b"raise the limit"))
        assert await client.text() == "raise the limit"
        client.send(frame(TEXT, b"x" * LARGER))
        assert await client.text() == "x" * LARGER
        client.send(frame(TEXT, b"x" * (LARGER + 1)))
        assert await client.closing() == (1009, "payload too large")


async def answered(client: RawClient) -> None:
    client.send(close_frame(1009))
    await client.ended()


async def test_messages_of_an_unknown_client_do_not_pile_up() -> None:
    wire = NoWire(limit=PREAUTH)
    scope: Any = {"type": "websocket", "extensions": {EXTENSION: wire}}
    queue = BoundedConnection(Quart(__name__), scope).queue

    queue.put_nowait("x" * 40_000)
    assert not queue.full()
    queue.put_nowait("x" * 40_000)
    assert queue.full()

    wire.limit = LARGER
    assert not queue.full()
