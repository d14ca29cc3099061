"""`kill -9` at any moment, and clients that send what was not answered once more."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from opensoul.client import Backoff, CallFailed, Client, ConnectionLost, Options, RunResult
from tests.e2e.process import GatewayProcess
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.e2e

TOKEN = "a secret of the tests"
SESSIONS = ("talk-0", "talk-1", "talk-2")
CLIENTS = 6
KILLS = 4
WORDS = tuple(f"word{number} " for number in range(15))
PATIENCE = 60.0
LOST = "What executed the run died"


def config(provider_url: str) -> str:
    return json.dumps(
        {
            "gateway": {"auth": {"token": TOKEN}},
            "agents": {"defaults": {"model": {"primary": "fake/m"}}},
            "models": {"providers": {"fake": {"baseUrl": provider_url, "models": [{"id": "m"}]}}},
        }
    )


def connect(gateway: GatewayProcess) -> Client:
    return Client(
        Options(
            url=f"ws://127.0.0.1:{gateway.port}",
            token=TOKEN,
            backoff=Backoff(first=0.05, longest=0.2, give_up_after=PATIENCE),
        )
    )


class Asker:
    """Asks one thing after the other, with `agent` and `chat.send` by turns, until told to stop."""

    def __init__(self, client: Client, number: int, stop: asyncio.Event) -> None:
        self.results: dict[str, RunResult] = {}
        self._client = client
        self._number = number
        self._stop = stop

    async def go_on(self) -> None:
        while not self._stop.is_set():
            key = f"key-{self._number}-{len(self.results)}"
            session = SESSIONS[self._number % len(SESSIONS)]
            ask = self._chat if len(self.results) % 2 else self._agent
            self.results[key] = await ask(key, session)

    async def _agent(self, key: str, session: str) -> RunResult:
        run = await self._client.run_agent(
            key, session_key=session, idempotency_key=key, accept_timeout=PATIENCE
        )
        return await run.result(PATIENCE)

    async def _chat(self, key: str, session: str) -> RunResult:
        asked = {"sessionKey": session, "message": key, "idempotencyKey": key}
        while True:
            try:
                await self._client.call("chat.send", asked, timeout=PATIENCE)
            except ConnectionLost:
                continue  # Nobody knows whether it was carried out, so it is sent again.
            except CallFailed as failed:
                if LOST not in failed.message:
                    raise
            return await self._client.follow(key).result(PATIENCE)


@pytest.mark.parametrize("seed", range(3))
async def test_a_request_that_is_sent_again_is_carried_out_once_at_most(
    tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)  # noqa: S311 - no secret
    async with FakeProvider(answer(*WORDS, delay=0.01)) as provider:
        gateway = GatewayProcess(tmp_path, config(provider.base_url))
        stop = asyncio.Event()
        async with gateway, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(gateway)) for _ in range(CLIENTS)]
            askers = [Asker(client, n, stop) for n, client in enumerate(clients)]
            tasks = [asyncio.create_task(principal.go_on()) for principal in askers]
            for _ in range(KILLS):
                await asyncio.sleep(moments.uniform(0.05, 0.8))  # Any moment is as good as another.
                await asyncio.to_thread(gateway.kill)
                await asyncio.to_thread(gateway.start)
            stop.set()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*tasks)
            results = {key: r for principal in askers for key, r in principal.results.items()}
            await check(clients[0], results, provider)


async def check(client: Client, results: dict[str, RunResult], provider: FakeProvider) -> None:
    """What was answered is what is kept: whole turns, each once, and nothing of the others. Each
    death repeats at most the calls of the runs that were going on."""
    calls = Counter(request.json["messages"][-1]["content"] for request in provider.requests)
    assert calls.keys() >= results.keys()
    assert sum(calls.values()) - len(calls) <= KILLS * CLIENTS
    finished = {key for key, result in results.items() if result.status == "ok"}
    assert finished
    assert all(results[key].text == "".join(WORDS) for key in finished)
    assert all(LOST in results[key].error for key in results.keys() - finished)
    kept: Counter[str] = Counter()
    for session in SESSIONS:
        run = await client.run_agent("still there?", session_key=session)
        assert (await run.result(PATIENCE)).status == "ok"
        asked = {"sessionKey": session, "limit": 1_000}
        messages = (await client.call("chat.history", asked))["messages"][:-2]
        assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2)
        kept.update(message["content"][0]["text"] for message in messages[::2])
    assert kept == Counter(finished)
