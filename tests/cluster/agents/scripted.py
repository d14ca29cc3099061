"""The agent of the processes of the tests. A request says what it does: `NAME TOKENS PAUSE`.
Any other one is `hello 3 0.01`.

It writes what it does into the file WORK, one line for each: the time at which its process began
with the work, each token, and the end. Lines of all processes have one order.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any


def note(kind: str, *words: object) -> None:
    file = os.open(os.environ["WORK"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, (" ".join(map(str, (kind, os.getpid(), *words))) + "\n").encode())
    finally:
        os.close(file)


async def answer(run: Any) -> AsyncIterator[str]:
    words = run.text.split()
    name, tokens, pause = words if len(words) == 3 else ("hello", "3", "0.01")
    own = run.run_id, run.session_key, name
    note("begin", *own)
    ended = False
    try:
        for number in range(int(tokens)):
            note("token", *own, number)
            yield f"{name}.{number} "
            await asyncio.sleep(float(pause))
        ended = True
    finally:
        note("end" if ended else "left", *own)


async def stamped(run: Any) -> AsyncIterator[str]:
    """The same without notes; each token is the time at which it was written."""
    _, tokens, pause = run.text.split()
    for _ in range(int(tokens)):
        yield f"tok @{time.monotonic_ns()}@ "
        await asyncio.sleep(float(pause))
