"""What becomes of runs whose worker dies, is paused or is stopped."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from opensoul.client import Finished, Resumed, run_text
from tests.cluster.nodes import LEASE, Machines, machines, official, question, text

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machines]:
    async with machines(tmp_path_factory.mktemp("cluster")) as started:
        yield started


async def test_another_worker_takes_over_the_runs_of_a_killed_one(shared: Machines) -> None:
    """How long that takes is printed: about the lease."""
    names = [f"taken-{number}" for number in range(6)]
    async with shared["a"].client() as client, shared["b"].client() as follower:
        runs = [
            await client.run_agent(question(name, 100, 0.05), session_key=f"agent:main:{name}")
            for name in names
        ]
        for run in runs:
            await shared.work.until("token", run.run_id, 5)
        victim = shared.busy(runs[0].run_id)
        lost = [run for run in runs if shared.busy(run.run_id) is victim]
        await victim.kill()
        killed = time.monotonic()
        waits = []
        for run in lost:
            await shared.work.until("begin", run.run_id, 2)
            waits.append(time.monotonic() - killed)
        await victim.start()
        for name, run in zip(names, runs, strict=True):
            events = [event async for event in follower.follow(run.run_id).events()]
            result = await run.result(120)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert isinstance(events[-1], Finished)
            assert run_text(events) == result.text == text(name, 100)
            resumed = [event for event in events if isinstance(event, Resumed)]
            assert len(resumed) == len(shared.work.of("begin", run.run_id)) - 1
            assert resumed or run not in lost
            history = await follower.history(f"agent:main:{name}")
            assert [one.text for one in history] == [question(name, 100, 0.05), text(name, 100)]
    median = statistics.median(waits)
    print(f"take-over of {len(waits)} runs: p50 {median:.2f} s with a lease of {LEASE:g} s")


async def test_a_stream_that_has_told_text_is_not_executed_again(shared: Machines) -> None:
    pieces: list[str] = []
    async with official(shared["a"]) as client:
        stream = await client.chat.completions.create(
            model="opensoul",
            messages=[{"role": "user", "content": question("told", 10_000, 0.02)}],
            stream=True,
        )
        async for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")
            if len(pieces) == 5:
                break
        victim = shared.busy(run_of(shared, "told"))
        await victim.kill()
        with pytest.raises(openai.APIError) as failure:
            pieces += [chunk.choices[0].delta.content or "" async for chunk in stream]
    await victim.start()

    assert failure.value.code == "run_interrupted"
    assert text("told", 10_000).startswith("".join(pieces))
    assert len(shared.work.of("begin", run_of(shared, "told"))) == 1


async def test_an_answer_that_is_not_streamed_only_comes_later(shared: Machines) -> None:
    async with official(shared["a"]) as client:
        waiting = asyncio.create_task(
            client.chat.completions.create(
                model="opensoul",
                messages=[{"role": "user", "content": question("later", 60, 0.05)}],
            )
        )
        run_id = await begun(shared, "later")
        await shared.work.until("token", run_id, 5)
        victim = shared.busy(run_id)
        await victim.kill()
        answer = await waiting
    await victim.start()

    assert answer.choices[0].message.content == text("later", 60)
    assert len(shared.work.of("begin", run_id)) == 2


async def test_a_worker_that_drains_hands_its_runs_to_others(tmp_path: Path) -> None:
    grace: dict[str, Any] = {"gateway": {"shutdown": {"lingerSeconds": 0, "graceSeconds": 1}}}
    roles = {"a": "gateway", "w1": "worker", "w2": "worker"}
    async with machines(tmp_path, roles, **grace) as started, started["a"].client() as client:
        runs = [
            await client.run_agent(question(f"handed-{n}", 150, 0.05), session_key=f"s-{n}")
            for n in range(4)
        ]
        for run in runs:
            await started.work.until("token", run.run_id, 3)
        leaving = started.busy(runs[0].run_id)
        assert await leaving.stop() == 0
        for n, run in enumerate(runs):
            result = await run.result(60)
            assert (result.status, result.text) == ("ok", text(f"handed-{n}", 150))
            assert started.busy(run.run_id) is not leaving


async def begun(shared: Machines, name: str) -> str:
    """The run of the request with this name, once it has begun."""
    async with asyncio.timeout(60):
        while True:
            try:
                return run_of(shared, name)
            except StopIteration:
                await asyncio.sleep(0.02)  # Files do not say that they change.


def run_of(shared: Machines, name: str) -> str:
    return next(line.run for line in shared.work.lines() if line.words[2:3] == [name])
