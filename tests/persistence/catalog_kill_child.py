"""A process that changes sessions as fast as it can and says what is acknowledged, until killed.

Arguments: the database, and a name for its run ids. Each line is a caller's number and its step.
"""

from __future__ import annotations

import asyncio
import os
import sys

from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.sessions.keys import SessionKey

from .building import make_turn

CALLERS = 4
ENOUGH = 5_000


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def call(store: SqliteStore, name: str, caller: int) -> None:
    key = SessionKey("main", f"caller-{caller}")
    session_id = f"{name}.{caller}"
    await store.reset(key, at=0.0, new_id=session_id)
    for n in range(1, ENOUGH):
        run_id = f"{name}.{caller}.{n}"
        await store.append(make_turn(run_id, key=key, session_id=session_id))
        if n % 3 == 0:
            session_id = run_id
            if n % 9:
                await store.compact(key, 4, at=float(n), new_id=session_id)
            else:
                await store.reset(key, at=float(n), new_id=session_id)
        await store.patch(key, {"step": n, "process": name}, at=0.0, new_id="unused")
        tell(f"{caller} {n}")


async def main(path: str, name: str) -> None:
    store = SqliteStore(path)
    await store.open()
    await asyncio.gather(*(call(store, name, caller) for caller in range(CALLERS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
