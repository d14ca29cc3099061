"""What the process holds after large requests: a real process, its RSS in /proc."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.control.client import connected
from tests.floods.test_large_requests import SECRET, Running, chat, post, running, said

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc"),
]

MB = 1_000_000
MOST = 150 * MB
SETTLES = 30.0
"""Seconds in which memory is given back after the last request."""


def rss(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


async def one_after_the_other(rig: Running) -> None:
    body = said("word " * 4_000_000)
    for _ in range(60):
        assert await post(rig.http, body) == 200


async def at_once(rig: Running) -> None:
    body = said("word " * 4_000_000)
    statuses = await asyncio.gather(*(post(rig.http, body) for _ in range(20)))
    assert set(statuses) == {200}


async def refused(rig: Running) -> None:
    body = chat(messages=[{"role": "user", "content": "x" * 19 * MB}], temperature="hot")
    for _ in range(60):
        assert await post(rig.http, body) == 400


async def runs_of_one_megabyte(rig: Running) -> None:
    body = said("word " * 200_000)
    for _ in range(10):
        statuses = await asyncio.gather(*(post(rig.http, body) for _ in range(20)))
        assert set(statuses) == {200}


async def messages_over_websocket(rig: Running) -> None:
    for number in range(20):
        async with connected(rig.http, SECRET, scopes=["operator.write"]) as peer:
            key = f"k{number}"
            asked = {
                "message": "x" * 20 * MB,
                "idempotencyKey": key,
                "sessionKey": f"agent:main:{key}",
            }
            run = await peer.call("chat.send", asked)
            await peer.event("chat", runId=run["runId"], state="final")


async def wide_texts(rig: Running) -> None:
    body = said("\U0001f600" + "word " * 3_900_000)
    for _ in range(20):
        assert await post(rig.http, body) == 200


def peak(pid: int) -> int:
    """The largest resident size that a process has had, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


CASES: tuple[Callable[[Running], Awaitable[None]], ...] = (
    one_after_the_other,
    at_once,
    refused,
    runs_of_one_megabyte,
    messages_over_websocket,
    wide_texts,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_memory_is_given_back(
    tmp_path: Path, case: Callable[[Running], Awaitable[None]]
) -> None:
    async with running(tmp_path) as rig:
        for _ in range(3):
            assert await post(rig.http, said("Hi")) == 200
        start, deadline = rss(rig.gateway.pid), time.monotonic() + SETTLES
        await case(rig)
        at_end = rss(rig.gateway.pid) - start
        # Another process gives no event when it returns memory.
        while (more := rss(rig.gateway.pid) - start) > MOST and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        told = {"at the end": at_end, "later": more, "peak": peak(rig.gateway.pid)}
        print(case.__name__, json.dumps({name: size // MB for name, size in told.items()}), "MB")
    assert more <= MOST
