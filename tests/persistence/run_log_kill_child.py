"""A process with Runs that talk as fast as they can; their followers say what they are told, until
it is killed. Arguments: the directory of the run log, and a name for its Runs.

It goes on with the Runs that an earlier process left unfinished, and begins some of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from opensoul.adapters.persistence.sqlite.runs.run_events import SqliteRunEvents
from opensoul.domain.models.calls import TextDelta

from .run_logs import record, started

RUNS = 6
ENOUGH = 20_000


def said(run_id: str, seq: int) -> TextDelta:
    """What event `seq` of the Run is: its id and number tell it."""
    return TextDelta(f"{run_id} {seq} " + "x" * (seq % 50))


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def talk(log: SqliteRunEvents, run_id: str, seq: int) -> None:
    for n in range(seq + 1, seq + ENOUGH):
        assert log.put(run_id, said(run_id, n)) == n
        await asyncio.sleep(0 if n % 3 else 0.001)


async def follow(log: SqliteRunEvents, run_id: str) -> None:
    async for told in log.follow_kept(run_id):
        for numbered in told:
            assert numbered.event == said(run_id, numbered.seq)
            say(f"{run_id} {numbered.seq}")


async def main(directory: str, name: str) -> None:
    say("opening")
    async with started(Path(directory)) as log, asyncio.TaskGroup() as tasks:
        for left in await log.unfinished():
            tasks.create_task(talk(log, left.id, left.last_seq))
            tasks.create_task(follow(log, left.id))
        for n in range(RUNS):
            run_id = f"{name}.{n}"
            await log.reserve(record(run_id))
            log.open(record(run_id))
            tasks.create_task(talk(log, run_id, 0))
            tasks.create_task(follow(log, run_id))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
