"""Processes of a Gateway are killed at random, and its database once.

OPENSOUL_CHAOS_SECONDS sets for how long, 60 by default; OPENSOUL_PAUSES how often a worker is
paused, 5 by default.
"""

from __future__ import annotations

import os
import random
import secrets
from pathlib import Path

import pytest

from tests.cluster.chaos import Chaos
from tests.cluster.nodes import machines

PAUSES = int(os.environ.get("OPENSOUL_PAUSES", "5"))
SECONDS = float(os.environ.get("OPENSOUL_CHAOS_SECONDS", "60"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 1_800)
async def test_no_run_is_lost_or_doubled_whichever_process_is_killed(tmp_path: Path) -> None:
    seed = secrets.randbelow(1_000_000)
    chance = random.Random(seed)  # noqa: S311 - it decides whom to kill
    async with machines(tmp_path) as started:
        chaos = Chaos(started, chance)
        wrong = await chaos.kill_processes(SECONDS)
        print(f"seed {seed}: {chaos.summary}; {len(wrong)} violations")
    assert not wrong, "\n".join(wrong[:20])
    assert chaos.counts["runs that were taken over"]


@pytest.mark.slow
@pytest.mark.timeout(PAUSES * 60 + 600)
async def test_a_worker_that_was_paused_writes_nothing_any_more(tmp_path: Path) -> None:
    seed = secrets.randbelow(1_000_000)
    chance = random.Random(seed)  # noqa: S311 - it decides whom to pause
    roles = {"a": "gateway", "b": "gateway", "w1": "worker", "w2": "worker"}
    async with machines(tmp_path, roles, node={"leaseSeconds": 3}) as started:
        chaos = Chaos(started, chance, sessions=8, turns=3, pause=0.1)
        wrong = await chaos.pause_workers(PAUSES)
        print(f"seed {seed}: {chaos.summary}; {len(wrong)} violations")
    assert not wrong, "\n".join(wrong[:20])
    assert chaos.counts["runs that were taken over"]
