"""A process that stores turns as fast as it can and says which are acknowledged, until killed.

Arguments: the database, and a name for its run ids. It imports little, since it starts often.
"""

from __future__ import annotations

import asyncio
import os
import sys

from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore

from .building import turn_named

CALLERS = 8
ENOUGH = 5_000


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def call(store: SqliteStore, name: str, caller: int) -> None:
    for n in range(ENOUGH):
        run_id = f"{name}.{caller}.{n}"
        await store.append(turn_named(run_id, caller=caller))
        tell(run_id)


async def main(path: str, name: str) -> None:
    tell("opening")
    store = SqliteStore(path)
    await store.open()
    await asyncio.gather(*(call(store, name, caller) for caller in range(CALLERS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
