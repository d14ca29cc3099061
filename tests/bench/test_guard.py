"""The guard of the hot path: it measures the real one, and fails when that is dearer."""

from __future__ import annotations

import orjson

from bench.guard import BASELINE, answer, gateway, measure, verdicts
from opensoul.domain.settings import StoreSettings


async def test_the_guarded_path_gives_a_whole_stream() -> None:
    async with gateway(StoreSettings(memory=True)) as served:
        size = await answer(served)
        assert size > 50 * len(b'data: {"choices":[{"delta":{"content":"tok "}}]}')
        assert await answer(served, user="somebody") == size


async def test_more_work_is_a_larger_figure() -> None:
    async def work(turns: int) -> None:
        sum(range(turns))

    little = await measure(lambda: work(10), pairs=3)
    much = await measure(lambda: work(3_000_000), pairs=3)
    assert much > little


def test_a_quarter_above_the_baseline_is_too_dear() -> None:
    wanted = {"memory": 2.0, "sqlite": 4.0}
    assert verdicts({"memory": 2.4, "sqlite": 4.9}, wanted) == []
    (line,) = verdicts({"memory": 2.6, "sqlite": 4.9, "new": 9.0}, wanted)
    assert line == "memory: 2.600 is more than 1.25 times the baseline 2.000"


def test_the_baseline_is_committed() -> None:
    for figures in orjson.loads(BASELINE.read_bytes()).values():
        assert figures.keys() == {"memory", "sqlite"}
