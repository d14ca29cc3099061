"""`kill -9` in the middle of many runs: every follower comes back and misses nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.control.client import Peer, connected
from tests.e2e.process import GatewayProcess
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

RUNS = 20
WORDS = tuple(f"word{number} " for number in range(60))
PATIENCE = 60.0
TOKEN = "a secret of the tests"


def config(provider_url: str) -> str:
    return json.dumps(
        {
            "gateway": {"auth": {"token": TOKEN}},
            "agents": {"defaults": {"model": {"primary": "fake/m"}}},
            "models": {"providers": {"fake": {"baseUrl": provider_url, "models": [{"id": "m"}]}}},
        }
    )


@dataclass
class Followed:
    """A run, and what its follower has seen of it over all its connections."""

    run_id: str
    seen: list[dict[str, Any]] = field(default_factory=list)
    well_on: asyncio.Event = field(default_factory=asyncio.Event)
    """Ten events were seen."""

    @property
    def last(self) -> int:
        return self.seen[-1]["seq"] if self.seen else 0

    @property
    def ended(self) -> bool:
        data = self.seen[-1]["data"] if self.seen else {}
        return data.get("phase") in ("end", "error")

    @property
    def text(self) -> str:
        """What counts of it: another attempt says everything anew."""
        text = ""
        for payload in self.seen:
            data = payload["data"]
            if data.get("phase") == "resumed" and data["void"]:
                text = ""
            elif payload["stream"] == "assistant":
                text += data["delta"]
        return text


@asynccontextmanager
async def followers(
    gateway: GatewayProcess, runs: list[Followed]
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """A connection for each run, which goes on behind what was seen of it."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession(gateway.url))
        tasks = []
        for run in runs:
            peer = await stack.enter_async_context(connected(client, TOKEN))
            await peer.call("runs.follow", {"runId": run.run_id, "afterSeq": run.last})
            tasks.append(asyncio.create_task(follow(peer, run)))
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def follow(peer: Peer, run: Followed) -> None:
    while not run.ended:
        run.seen.append((await peer.event("agent", runId=run.run_id))["payload"])
        if len(run.seen) == 10:
            run.well_on.set()


async def begin(gateway: GatewayProcess) -> list[Followed]:
    """Start every run, each in a session of its own."""
    async with (
        aiohttp.ClientSession(gateway.url) as client,
        connected(client, TOKEN) as peer,
    ):
        runs = [Followed(f"run-{number}") for number in range(RUNS)]
        for number, run in enumerate(runs):
            await peer.answer(peer.send("agent", asked(run, number)))
        return runs


def asked(run: Followed, number: int) -> dict[str, Any]:
    return {
        "message": "tell me a lot",
        "sessionKey": f"talk-{number}",
        "idempotencyKey": run.run_id,
    }


async def test_no_event_is_missed_or_told_twice_when_the_gateway_is_killed(
    tmp_path: Path,
) -> None:
    async with FakeProvider(answer(*WORDS, delay=0.01)) as provider:
        gateway = GatewayProcess(tmp_path, config(provider.base_url))
        async with gateway:
            runs = await begin(gateway)
            async with followers(gateway, runs):
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(*(run.well_on.wait() for run in runs))
                await asyncio.to_thread(gateway.kill)
        async with gateway:
            async with followers(gateway, runs) as tasks:
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(*tasks)
            await check(gateway, runs, provider)


async def check(gateway: GatewayProcess, runs: list[Followed], provider: FakeProvider) -> None:
    """Each run has every number once, its whole answer, and a session that can go on."""
    whole = "".join(WORDS)
    for run in runs:
        assert [payload["seq"] for payload in run.seen] == list(range(1, len(run.seen) + 1))
        assert run.text == whole
    async with aiohttp.ClientSession(gateway.url) as client, connected(client, TOKEN) as peer:
        for number, run in enumerate(runs):
            record = await peer.call("runs.get", {"runId": run.run_id})
            assert record["lastSeq"] == run.last
            assert record["status"] == "finished"
            history = await peer.call("chat.history", {"sessionKey": f"talk-{number}"})
            assert len(history["messages"]) == 2
        assert not (await peer.call("runs.list", {"status": "running"}))["runs"]
        await goes_on(peer, runs, provider)


async def goes_on(peer: Peer, runs: list[Followed], provider: FakeProvider) -> None:
    """A repeated request gets the run it had; a new one finds the session usable."""
    asked_before = len(provider.requests)
    repeated = await peer.call("chat.send", {**sent(0), "idempotencyKey": "fresh"})
    assert repeated["status"] == "started"
    await peer.event("chat", runId="fresh", state="final")
    assert len(provider.requests) == asked_before + 1
    # Sent once more, a request gets the run it had.
    for number, run in enumerate(runs):
        again = await peer.call("agent", asked(run, number))
        assert again["runId"] == run.run_id
    assert len(provider.requests) == asked_before + 1


def sent(number: int) -> dict[str, Any]:
    return {"sessionKey": f"talk-{number}", "message": "and now?"}
