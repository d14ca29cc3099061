"""What waits for a client: in order, numbered, bounded, shared."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from opensoul.adapters.transports.control.connection.outbox import (
    Outbox,
    error_frame,
    response_frame,
)
from opensoul.adapters.transports.control.protocol import ErrorShape

KILO = b'"' + b"x" * 1_000 + b'"'


async def taken(outbox: Outbox) -> list[Any]:
    """All that waits, as it is sent."""
    return [json.loads(await outbox.take()) for _ in range(len(outbox))]


async def test_frames_leave_in_the_order_they_came_and_events_are_numbered() -> None:
    outbox = Outbox()
    outbox.put(response_frame("1", {"ok": "ä"}))
    outbox.event("tick", b'{"ts":1}')
    outbox.event("presence", b"{}", state=b'{"presence":2,"health":1}')
    outbox.put(error_frame("2", ErrorShape(code="X", message="no"), {"runId": "r"}))

    assert await taken(outbox) == [
        {"type": "res", "id": "1", "ok": True, "payload": {"ok": "ä"}},
        {"type": "event", "event": "tick", "payload": {"ts": 1}, "seq": 1},
        {
            "type": "event",
            "event": "presence",
            "payload": {},
            "seq": 2,
            "stateVersion": {"presence": 2, "health": 1},
        },
        {
            "type": "res",
            "id": "2",
            "ok": False,
            "error": {"code": "X", "message": "no"},
            "payload": {"runId": "r"},
        },
    ]


async def test_taking_waits_for_a_frame() -> None:
    outbox = Outbox()
    taking = asyncio.create_task(outbox.take())
    outbox.put(b"{}")

    assert await taking == "{}"


async def test_what_may_be_lost_is_lost_first_and_leaves_a_gap() -> None:
    outbox = Outbox(limit=3_000)
    outbox.event("agent", KILO)
    outbox.event("agent", KILO)
    outbox.event("chat", KILO, may_be_lost=True)
    assert not outbox.overflow.is_set()
    assert [frame["seq"] for frame in await taken(outbox)] == [1, 2]

    outbox.event("chat", KILO, may_be_lost=True)
    assert [frame["seq"] for frame in await taken(outbox)] == [4]


async def test_what_must_not_be_lost_makes_a_slow_client_known() -> None:
    outbox = Outbox(limit=3_000)
    for _ in range(3):
        outbox.event("agent", KILO)

    assert outbox.overflow.is_set()
    assert len(outbox) == 2


async def test_room_is_told_of_once_there_is_some() -> None:
    outbox = Outbox(limit=2_000)
    outbox.event("agent", KILO)
    waiting = asyncio.create_task(outbox.drained())
    await asyncio.wait_for(waiting, 5)


async def test_letters_of_several_bytes_do_not_fill_it_up_over_time() -> None:
    outbox = Outbox(limit=3_000)
    text = json.dumps("ü" * 400, ensure_ascii=False).encode()
    for _ in range(1_000):
        outbox.event("agent", text)
        outbox.put(text)
        await taken(outbox)

    assert not outbox.overflow.is_set()
