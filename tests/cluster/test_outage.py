"""The database is away for several leases while clients read streams."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import openai
import pytest

from tests.cluster.nodes import LEASE, Machines, Node, machines, official, question, text

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TOKENS = 150


class Reader:
    """A client that reads a streamed answer."""

    def __init__(self, node: Node, name: str) -> None:
        self.begun = asyncio.Event()
        self.task = asyncio.create_task(self._read(node, name))

    async def _read(self, node: Node, name: str) -> str:
        pieces: list[str] = []
        async with official(node) as client:
            stream = await client.chat.completions.create(
                model="opensoul",
                messages=[{"role": "user", "content": question(name, TOKENS, 0.05)}],
                stream=True,
            )
            async for chunk in stream:
                pieces.append(chunk.choices[0].delta.content or "")
                if any(pieces):
                    self.begun.set()
        return "".join(pieces)


async def status(node: Node, path: str) -> int:
    async with aiohttp.ClientSession() as client, client.get(f"{node.url}{path}") as response:
        return response.status


async def until_ready(started: Machines) -> None:
    async with asyncio.timeout(60):
        for node in started.nodes.values():
            while await status(node, "/readyz") != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # The Gateway does not say when it is ready.


async def test_streams_go_on_when_the_database_is_back(tmp_path: Path) -> None:
    roles = {"a": "gateway", "w1": "worker", "w2": "worker", "all": "all"}
    async with machines(tmp_path, roles) as started:
        readers = {
            f"{node}-{number}": Reader(started[node], f"{node}-{number}")
            for node in ("a", "all")
            for number in range(2)
        }
        for reader in readers.values():
            await asyncio.wait_for(reader.begun.wait(), 60)
        started.postgres.stop()
        with pytest.raises(openai.InternalServerError) as refused:
            async with official(started["a"]) as client:
                await client.chat.completions.create(
                    model="opensoul", messages=[{"role": "user", "content": question("refused")}]
                )
        states = [await status(started["a"], path) for path in ("/healthz", "/readyz")]
        await asyncio.sleep(2 * LEASE)  # So long it is away.
        started.postgres.start()
        answers = {
            name: await asyncio.wait_for(reader.task, 60) for name, reader in readers.items()
        }
        await until_ready(started)
        begun = [line for line in started.work.lines() if line.kind == "begin"]

        assert refused.value.status_code == 503
        assert states == [200, 503]
        assert answers == {name: text(name, TOKENS) for name in readers}
        assert len(begun) == len(readers)
        assert all(node.alive for node in started.nodes.values())
