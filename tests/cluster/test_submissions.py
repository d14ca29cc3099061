"""Requests that are sent again, to any node."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.app.serving import SECRET
from tests.cluster.nodes import machines, question, text

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NODES = {"a": "gateway", "b": "gateway", "c": "all", "d": "all"}
AT_ONCE = 40
"""Requests that each node is sent at the same time."""


@pytest.mark.parametrize("times", [1_000])
async def test_equal_requests_at_four_nodes_are_one_run(tmp_path: Path, times: int) -> None:
    body = {
        "model": "opensoul",
        "messages": [{"role": "user", "content": question("equal", 10, 0.05)}],
    }
    headers = {"Authorization": f"Bearer {SECRET}", "Idempotency-Key": "the-same"}
    answers: Counter[tuple[int, str, str, str]] = Counter()
    async with machines(tmp_path, NODES) as started, aiohttp.ClientSession() as http:
        bounds = {name: asyncio.Semaphore(AT_ONCE) for name in NODES}

        async def send(name: str) -> None:
            url = f"{started[name].url}/v1/chat/completions"
            async with bounds[name], http.post(url, json=body, headers=headers) as response:
                said = await response.json()
                run_id = response.headers.get("x-opensoul-run-id", "")
                content = said["choices"][0]["message"]["content"] if "choices" in said else said
                answers[response.status, said.get("id", ""), run_id, str(content)] += 1

        names = [name for _ in range(times // len(NODES)) for name in NODES]
        await asyncio.gather(*map(send, names))
        begun = [line for line in started.work.lines() if line.kind == "begin"]
        ((status, _, run_id, content), count), *others = answers.most_common()
        async with started["b"].client() as client:
            listed = (await client.runs(limit=10)).runs

    assert not others
    assert (status, content, count) == (200, text("equal", 10), times)
    assert [line.run for line in begun] == [run_id]
    assert [run.id for run in listed] == [run_id]
