"""`kill -9` of a process with live Runs: what a follower was told is there, in order, no gap."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from opensoul.domain.runs.events import NumberedEvent

from .run_log_kill_child import RUNS, said
from .run_logs import END, FILE, numbered, started, told_kept

ROOT = Path(__file__).parents[2]
KILLS = 6
LONGEST_LIFE = 3_000
"""Lines after which a process is killed at the latest."""


def live_and_die(directory: Path, name: str, lines: int) -> dict[str, list[int]]:
    """What each Run's follower was told by the process that was killed after that many lines."""
    module = "tests.persistence.run_log_kill_child"
    command = [sys.executable, "-m", module, str(directory), name]
    with subprocess.Popen(command, cwd=ROOT, env={}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(1 + lines)]
        process.kill()
        told += process.stdout.readlines()
    assert told[0] == "opening\n"
    assert process.returncode == -9
    seen: dict[str, list[int]] = {}
    for line in told[1:]:
        run_id, seq = line.split()
        seen.setdefault(run_id, []).append(int(seq))
    return seen


async def check_unfinished(directory: Path, seen: dict[str, int]) -> None:
    """Every Run is unfinished, and has all that was ever told of it, each event once."""
    async with started(directory) as log:
        left = {run.id: run.last_seq for run in await log.unfinished()}
        for run_id, last in seen.items():
            assert left[run_id] >= last
            everything = numbered(said(run_id, seq) for seq in range(1, left[run_id] + 1))
            assert await told_kept(log, run_id, until=left[run_id]) == everything
            rest: list[NumberedEvent] = []
            if left[run_id] > last:
                rest = await told_kept(log, run_id, last, until=left[run_id])
            assert rest == everything[last:]


async def test_a_killed_process_leaves_every_told_event(tmp_path: Path) -> None:
    moments = random.Random(7)  # noqa: S311 - the same moments in every run
    last: dict[str, int] = {}
    for kill in range(KILLS):
        lines = moments.randrange(LONGEST_LIFE) if kill else 0
        seen = await asyncio.to_thread(live_and_die, tmp_path, f"k{kill}", lines)
        for run_id, seqs in seen.items():
            assert seqs == list(range(1, len(seqs) + 1))
            last[run_id] = max(last.get(run_id, 0), len(seqs))
        await check_unfinished(tmp_path, last)
    assert len(last) > RUNS
    async with started(tmp_path) as log:
        for run in await log.unfinished():
            assert log.put(run.id, END) == run.last_seq + 1
            assert len(await told_kept(log, run.id)) == run.last_seq + 1
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
