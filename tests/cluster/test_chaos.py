"""Processes of a Gateway are killed at random, and its database once.

OPENSOUL_CHAOS_SECONDS sets for how long; 60 by default.
"""

from __future__ import annotations

import os
import random
import secrets
from pathlib import Path

import pytest

from tests.cluster.chaos import Chaos
from tests.cluster.nodes import machines

SECONDS = float(os.environ.get("OPENSOUL_CHAOS_SECONDS", "60"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 1_800)
async def test_no_run_is_lost_or_doubled_whichever_process_is_killed(tmp_path: Path) -> None:
    seed = secrets.randbelow(1_000_000)
    chance = random.Random(seed)  # noqa: S311 - it decides whom to kill
    async with machines(tmp_path) as started:
        chaos = Chaos(started, chance)
        wrong = await chaos.run(SECONDS)
        print(f"seed {seed}: {chaos.summary}; {len(wrong)} violations")
    assert not wrong, "\n".join(wrong[:20])
    assert chaos.counts["runs that were taken over"]
