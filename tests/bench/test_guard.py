"""The guard of the hot path: it measures the real one, and fails when that is dearer."""

from __future__ import annotations

from pathlib import Path

import orjson

from bench.guard import BASELINE, Calls, calls_of_a_request, verdicts
from bench.hotpath import answer, gateway
from opensoul.domain.settings import StoreSettings


async def test_the_guarded_path_gives_a_whole_stream() -> None:
    async with gateway(StoreSettings(memory=True)) as served:
        size = await answer(served)
        assert size > 50 * len(b'data: {"choices":[{"delta":{"content":"tok "}}]}')
        assert await answer(served, user="somebody") == size


def test_calls_are_counted() -> None:
    with Calls() as calls:
        len(str(1))
    assert 2 <= calls.count <= 4  # And those that end the counting.


async def test_the_calls_of_a_stored_request_are_counted(tmp_path: Path) -> None:
    stored = await calls_of_a_request(StoreSettings(path=str(tmp_path / "guard.db")))
    assert stored > 50


def test_a_quarter_above_the_baseline_is_too_dear() -> None:
    wanted = {"stored": 5_000.0, "calls": 4_000.0}
    assert verdicts({"stored": 6_200, "calls": 4_900}, wanted) == []
    (line,) = verdicts({"stored": 6_300, "calls": 4_900, "new": 9.0}, wanted)
    assert line == "stored: 6300 is more than 1.25 times the baseline 5000"


def test_the_baseline_is_committed() -> None:
    for figures in orjson.loads(BASELINE.read_bytes()).values():
        assert figures.keys() == {"calls", "stored"}
