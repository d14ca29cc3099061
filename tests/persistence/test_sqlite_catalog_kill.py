"""`kill -9` while sessions are changed: what was told is there, and nothing is there by half."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.sessions.keys import SessionKey

from .catalog_kill_child import CALLERS

ROOT = Path(__file__).parents[2]
KILLS = 6
LONGEST_LIFE = 120
"""Acknowledgements after which a process is killed at the latest."""

UNEVEN = """
    SELECT id, message_count AS told FROM transcripts AS one WHERE
        told != (SELECT count(*) FROM messages WHERE transcript = one.id)
        OR told != (SELECT total(message_count) FROM turns WHERE transcript = one.id)
            + (SELECT total(message_count) FROM copies WHERE transcript = one.id)"""


def live_and_die(path: Path, name: str, acknowledgements: int) -> dict[int, int]:
    """How far each caller of the process had come, as far as it was told."""
    command = [sys.executable, "-m", "tests.persistence.catalog_kill_child", str(path), name]
    with subprocess.Popen(command, cwd=ROOT, env={}, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = [process.stdout.readline() for _ in range(acknowledgements)]
        finally:
            process.kill()
        told += process.stdout.readlines()
    assert process.returncode == -9
    return {int(caller): int(step) for caller, step in map(str.split, told)}


def assert_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute(UNEVEN).fetchall() == []


async def test_a_killed_process_leaves_every_told_change_and_no_half_one(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    moments = random.Random(path.name)  # noqa: S311 - the same moments in every run
    for kill in range(KILLS):
        last = moments.randrange(CALLERS * 2, LONGEST_LIFE)
        told = await asyncio.to_thread(live_and_die, path, f"k{kill}", last)
        assert_sound(path)
        store = SqliteStore(path)
        await store.open()
        for caller, step in told.items():
            key = SessionKey("main", f"caller-{caller}")
            info = await store.find(key)
            assert info is not None
            assert info.settings["process"] == f"k{kill}"
            assert info.settings["step"] in (step, step + 1)
            loaded = await store.load(key, 1_000)
            assert loaded is not None
            assert (loaded.session_id, loaded.message_count) == (
                info.session_id,
                len(await store.messages(key, limit=99)),
            )
            for n in range(1, step + 1):
                assert await store.turn(f"k{kill}.{caller}.{n}") is not None
        await store.close()
