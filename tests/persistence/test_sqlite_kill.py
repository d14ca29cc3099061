"""`kill -9` at any moment, again and again on the same files: nothing told is lost or halved."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from opensoul.adapters.persistence.common.codec import decode
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore

from .building import KEY, turn_named

ROOT = Path(__file__).parents[2]
KILLS_EACH = 9
LONGEST_LIFE = 80
"""Acknowledgements after which a process is killed at the latest."""

STORED = """
    SELECT turns.run_id, messages.body FROM turns
    LEFT JOIN messages ON messages.transcript = turns.transcript
        AND messages.number >= turns.first_message
        AND messages.number < turns.first_message + turns.message_count
    ORDER BY turns.transcript, messages.number"""
COUNTED = """
    SELECT (SELECT total(message_count) FROM turns),
           (SELECT total(message_count) FROM transcripts),
           (SELECT count(*) FROM messages)"""


@contextmanager
def child(path: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.persistence.kill_child", str(path), name]
    with subprocess.Popen(command, cwd=ROOT, env={}, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def live_and_die(path: Path, name: str, acknowledgements: int) -> set[str]:
    """Which runs the process had acknowledged when it was killed, right after that many lines."""
    with child(path, name) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(1 + acknowledgements)]
        process.kill()
        told += process.stdout.readlines()
    assert told[0] == "opening\n"
    assert process.returncode == -9
    return {line.rstrip("\n") for line in told[1:]}


def stored_runs(path: Path, name: str) -> set[str]:
    """All runs in the database, once it is proven sound; those of process `name` to the letter."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert len(set(connection.execute(COUNTED).fetchone())) == 1
        found: dict[str, list[bytes]] = {}
        for run_id, body in connection.execute(STORED):
            found.setdefault(run_id, []).append(body)
    for run_id, bodies in found.items():
        expected = turn_named(run_id, caller=0).messages
        assert len(bodies) == len(expected)
        if run_id.startswith(f"{name}."):
            assert tuple(map(decode, bodies)) == expected
    return set(found)


async def kill_repeatedly(path: Path) -> int:
    """Tells how many acknowledged turns the database holds in the end."""
    moments = random.Random(path.name)  # noqa: S311 - the same moments in every run
    acknowledged: set[str] = set()
    for kill in range(KILLS_EACH):
        # The first death is while the database is being made.
        last = moments.randrange(LONGEST_LIFE) if kill else 0
        acknowledged |= await asyncio.to_thread(live_and_die, path, f"k{kill}", last)
        store = SqliteStore(path)
        await store.open()
        await store.check()
        await store.load(KEY, 1_000)
        await store.close()
        assert acknowledged <= stored_runs(path, f"k{kill}")
    return len(acknowledged)


@pytest.mark.timeout(300)  # Half a minute on a busy machine.
@pytest.mark.parametrize("databases", [1, pytest.param(6, marks=pytest.mark.slow)])
async def test_a_killed_process_leaves_every_told_turn_and_no_half_one(
    tmp_path: Path, databases: int
) -> None:
    one_for_each_core = asyncio.Semaphore(os.cpu_count() or 1)

    async def turns_kept(number: int) -> int:
        async with one_for_each_core:
            return await kill_repeatedly(tmp_path / f"{number}.sqlite3")

    kept = await asyncio.gather(*map(turns_kept, range(databases)))
    assert min(kept) > KILLS_EACH
