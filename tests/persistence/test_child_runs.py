"""Runs that work for another Run: they do not outlive it, and have slots of their own."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from opensoul.adapters.persistence.memory import MemoryRunEvents
from opensoul.domain.errors import LeaseLost, RunAborted, RunInterrupted
from opensoul.domain.models import StopReason, Usage
from opensoul.domain.runs import (
    Aborted,
    Claim,
    Failed,
    Finished,
    OnLeave,
    RunSpec,
    RunStatus,
    Waiting,
)
from opensoul.domain.sessions import SessionKey
from opensoul.domain.settings import LaneSettings
from tests.fakes.domain import run

from .run_logs import END, HandClock, started
from .run_queues import ASKS, BENCHES, Bench, LocalBench, bench_of

PARENT_ENDED = "The run that started it has ended."


@pytest.fixture(params=BENCHES)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_of(request.param, tmp_path, request) as bench:
        yield bench


def child(name: str, parent: str = "run-1", depth: int = 1) -> RunSpec:
    rest = ":".join([f"subagent:{name}"] * depth)
    key = SessionKey("main", rest)
    return run(name, session_key=key, parent=parent, on_leave=OnLeave.CONTINUE)


@pytest.mark.parametrize(
    "ending",
    [
        Finished(StopReason.STOP, Usage(1, 1), "demo/parrot"),
        Failed("run_failed", "no answer"),
        Aborted("stop"),
    ],
)
async def test_runs_are_stopped_when_the_run_they_work_for_ends(
    bench: Bench, ending: Finished | Failed | Aborted
) -> None:
    parent = await bench.claimed()
    await bench.queue.enqueue(child("a"))
    await bench.queue.enqueue(child("b"))
    await bench.queue.enqueue(child("of-a", "a", depth=2))

    await bench.queue.finish(parent, ending)

    assert bench.hands.aborted == ["a", "b"]
    (claim,) = [claim for claim in bench.hands.claims if claim.spec.id == "a"]
    await bench.queue.finish(claim, Aborted(PARENT_ENDED))
    assert bench.hands.aborted == ["a", "b", "of-a"]


async def test_a_waiting_child_ends_with_its_parent(bench: Bench) -> None:
    parent = await bench.claimed()
    await bench.queue.enqueue(child("a"))
    await bench.queue.wait(bench.hands.claims[-1], ASKS, signals_read=0)

    await bench.queue.finish(parent, END)

    assert (await bench.record("a")).status is RunStatus.ABORTED
    assert await bench.queue.unfinished() == ()


async def test_a_parent_that_waits_keeps_its_children(bench: Bench) -> None:
    parent = await bench.claimed()
    await bench.queue.enqueue(child("a"))

    await bench.queue.wait(parent, Waiting("Approve?", "a1", 2_000.0), signals_read=0)

    assert bench.hands.aborted == []
    assert [spec.id for spec in await bench.queue.unfinished()] == ["run-1", "a"]


async def test_a_run_that_has_ended_gets_no_children(bench: Bench) -> None:
    await bench.queue.finish(await bench.claimed(), END)

    with pytest.raises(RunAborted, match=PARENT_ENDED):
        await bench.queue.enqueue(child("a"), once=True)

    assert await bench.log.find("a") is None


async def test_each_depth_has_slots_of_its_own(bench: Bench) -> None:
    """Otherwise parents that wait for their children could take all slots."""
    bench.limits = LaneSettings(max_concurrent=1, max_subagents=2)
    await bench.claimed()
    for name in ("a", "b", "c"):
        await bench.queue.enqueue(child(name))
    await bench.queue.enqueue(child("of-a", "a", depth=2))

    assert [name for name, _ in bench.taken] == ["run-1", "a", "b", "of-a"]

    await bench.queue.finish(bench.hands.claims[1], END)
    await bench.hands.has(claims=5)
    assert [name for name, _ in bench.taken] == ["run-1", "a", "b", "of-a", "c"]


@pytest.mark.parametrize("seed", range(20))
async def test_no_run_outlives_one_that_it_works_for(seed: int) -> None:
    """Trees of runs, of which any ends at any time, and any waits for a signal."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    clock = HandClock()
    bench = LocalBench(MemoryRunEvents(clock=clock), clock)
    bench.limits = LaneSettings(max_concurrent=2, max_subagents=3)
    parents = {"run-1": ""}
    await bench.queue.enqueue(run("run-1"))
    for number in range(40):
        going_on = {spec.id: spec for spec in await bench.queue.unfinished()}
        if not going_on:
            break
        parent = going_on[chance.choice(sorted(going_on))]
        spec = child(f"child-{number}", parent.id, parent.session_key.depth + 1)
        parents[spec.id] = parent.id
        await bench.queue.enqueue(spec)
        if chance.random() < 0.4:
            await ended(bench, chance.choice(bench.hands.claims), chance)
        while bench.hands.aborted:
            name = bench.hands.aborted.pop()
            claim = next(one for one in bench.hands.claims if one.spec.id == name)
            await ended(bench, claim, chance)
        left = {spec.id for spec in await bench.queue.unfinished()}
        assert {parents[name] for name in left} <= left | {""}


async def ended(bench: Bench, claim: Claim, chance: random.Random) -> None:
    """End the Run, or let it wait, if the claim is still the Run's."""
    with suppress(LeaseLost):
        if chance.random() < 0.3:
            await bench.queue.wait(claim, ASKS, signals_read=0)
        else:
            await bench.queue.finish(claim, END)


# After a restart


async def recovered(state: Path, *specs: RunSpec) -> tuple[list[str], list[str]]:
    """The Runs that go on after the death of a process, and those that are to be ended."""
    async with started(state) as log:
        bench = LocalBench(log, HandClock())
        for spec in specs:
            await bench.queue.enqueue(spec)
    async with started(state) as log:
        bench = LocalBench(log, HandClock())
        ending = [claim.spec.id for claim in await bench.queue.expired("next")]
        return [name for name, _ in bench.taken], ending


async def test_children_of_a_run_that_goes_on_go_on(tmp_path: Path) -> None:
    parent = run(on_leave=OnLeave.CONTINUE)

    went_on, ending = await recovered(tmp_path, parent, child("a"), child("of-a", "a", 2))

    assert (went_on, ending) == (["run-1", "a", "of-a"], [])


async def test_children_of_a_run_that_cannot_go_on_end_without_being_executed(
    tmp_path: Path,
) -> None:
    went_on, ending = await recovered(tmp_path, run(), child("a"), child("of-a", "a", 2))

    assert (went_on, ending) == ([], ["run-1", "a", "of-a"])


async def test_a_child_that_was_handed_back_without_its_parent_ends_at_the_next_start(
    tmp_path: Path,
) -> None:
    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        parent = await bench.claimed()
        await bench.queue.enqueue(child("a"))
        assert await bench.queue.hand_back("a")
        await bench.queue.finish(parent, END)
    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        (claim,) = await bench.queue.expired("next")
        await bench.queue.finish(claim, Failed(RunInterrupted.code, "The Gateway stopped."))
        assert bench.taken == []
        assert (await bench.record("a")).status is RunStatus.INTERRUPTED


async def test_a_recovered_parent_still_takes_its_children_with_it(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        await bench.queue.enqueue(run(on_leave=OnLeave.CONTINUE))
        await bench.queue.enqueue(child("a"))
    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        await bench.queue.expired("next")
        await bench.queue.finish(bench.hands.claims[0], END)
        assert bench.hands.aborted == ["a"]
