"""Processes that execute Runs are killed or paused at random, and the database is killed once.

OPENSOUL_CHAOS_SECONDS sets for how long; 10 by default.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import AsyncExitStack, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from opensoul.domain.models.calls import TextDelta
from opensoul.domain.runs.events import Finished, NumberedEvent, Resumed
from opensoul.domain.sessions.keys import SessionKey
from tests.fakes.domain import run

from .postgres_runs import Node, all_of, node
from .postgres_server import private_cluster, server_programs

SESSIONS, TURNS, TOKENS = 12, 4, 30
LEASE, PAUSE = 1.0, 0.01
SECONDS = float(os.environ.get("OPENSOUL_CHAOS_SECONDS", "10"))
_BY_SESSION = """
    SELECT session_key, claimed_at, kept_from, status, attempt
    FROM runs ORDER BY session_key, position"""


class Processes:
    """Three that are each started again when they were killed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._alive: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        for _ in range(3):
            self._alive.append(await self._one())

    async def _one(self) -> asyncio.subprocess.Process:
        arguments = (self._url, str(LEASE), str(TOKENS), str(PAUSE))
        module = "tests.persistence.postgres_runs_child"
        return await asyncio.create_subprocess_exec(sys.executable, "-m", module, *arguments)

    async def kill_one(self, chance: random.Random) -> None:
        process = self._alive.pop(chance.randrange(len(self._alive)))
        await _killed(process)
        self._alive.append(await self._one())

    async def pause_one(self, chance: random.Random, seconds: float) -> None:
        process = chance.choice(self._alive)
        # One that was started while the server was away has ended by itself.
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            process.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        for process in self._alive:
            await _killed(process)


async def _killed(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


@pytest.mark.slow
async def test_no_run_is_lost_or_doubled_whoever_is_killed(tmp_path: Path) -> None:
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL")
    chance = random.Random(7)  # noqa: S311 - it decides whom to kill
    with private_cluster(programs, durable=True) as server:
        async with AsyncExitStack() as stack:
            gateways = [
                await stack.enter_async_context(
                    node(server.url, f"gateway-{n}", works=False, lease=LEASE, look_every=0.5)
                )
                for n in range(2)
            ]
            processes = Processes(server.url)
            stack.push_async_callback(processes.end)
            await processes.start()
            loop = asyncio.get_running_loop()
            until = loop.time() + SECONDS
            told: dict[str, list[NumberedEvent]] = {}
            rounds = 0
            while loop.time() < until or not rounds:
                following = await submit(gateways, rounds)
                waiting = asyncio.gather(*following.values())
                while not waiting.done():
                    await asyncio.wait((waiting,), timeout=chance.uniform(0.3, 1.0))
                    match chance.randrange(6):
                        case 0:
                            await processes.pause_one(chance, 2 * LEASE)
                        case _:
                            await processes.kill_one(chance)
                    if rounds == 0 and not waiting.done():
                        rounds = 1
                        await asyncio.to_thread(server.kill_and_restart)
                told |= dict(zip(following, await waiting, strict=True))
                rounds += 1
            await check(gateways[1], told)


async def submit(gateways: list[Node], round_: int) -> dict[str, asyncio.Task[list[NumberedEvent]]]:
    """All turns of all sessions at once, so that the lanes must order them."""
    following = {}
    for turn in range(TURNS):
        for session in range(SESSIONS):
            run_id = f"{round_}-{session}-{turn}"
            key = SessionKey("main", f"{round_}-{session}")
            at = gateways[(session + turn) % 2]
            assert (await at.queue.enqueue(run(run_id, session_key=key), once=True)).fresh
            other = gateways[(session + turn + 1) % 2]
            following[run_id] = asyncio.create_task(all_of(other.events.follow(run_id), seconds=90))
    return following


async def check(node: Node, told: dict[str, list[NumberedEvent]]) -> None:
    for run_id, events in told.items():
        assert [event.seq for event in events] == list(range(1, len(events) + 1)), run_id
        last = max((n for n, one in enumerate(events) if isinstance(one.event, Resumed)), default=0)
        words = [one.event.text for one in events[last:] if isinstance(one.event, TextDelta)]
        assert words == [f"{n} " for n in range(TOKENS)], run_id
        assert [isinstance(one.event, Finished) for one in events].count(True) == 1
        assert await all_of(node.events.follow_kept(run_id)) == events
    rows = await node.database.rows(_BY_SESSION)
    assert len(rows) == len(told)
    assert any(row[4] > 1 for row in rows)  # There were enough deaths to prove something.
    for before, after in pairwise(rows):
        assert after[3] == "finished"
        if before[0] == after[0]:  # The turn after it was claimed behind its end.
            assert after[1] >= before[2]
