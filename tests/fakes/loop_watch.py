"""Measures how long an event loop was blocked: the CPU time of its slowest callback.

CPU time of the loop's own thread, not time on the clock: a machine that is busy with something
else makes it no longer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class LoopWatch:
    """The duration of the slowest callback since `reset` in seconds, and its description."""

    def __init__(self, thread: int) -> None:
        self._thread = thread
        self.slowest = 0.0
        self.culprit = ""

    def reset(self) -> None:
        self.slowest, self.culprit = 0.0, ""

    def note(self, handle: asyncio.Handle, spent: float) -> None:
        if spent > self.slowest:
            self.slowest, self.culprit = spent, _name(handle)

    def concerns(self) -> bool:
        return threading.get_ident() == self._thread


def _name(handle: asyncio.Handle) -> str:
    """The task that a callback belongs to, or the callback."""
    callback: Any = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return repr(callback)
    names: list[str] = []
    awaited: Any = task.get_coro()
    while (code := getattr(awaited, "cr_code", None)) is not None:
        names.append(code.co_qualname)
        awaited = awaited.cr_await
    return " > ".join(names)


@contextmanager
def watched(thread: int | None = None) -> Iterator[LoopWatch]:
    """Watch the asyncio loop of a thread, by default of the current one.

    Each step of a task is a callback of its own; uvloop's callbacks are not seen.
    """
    watch = LoopWatch(threading.get_ident() if thread is None else thread)
    original = asyncio.Handle._run

    def run(handle: asyncio.Handle) -> None:
        if not watch.concerns():
            original(handle)
            return
        began = time.thread_time()
        original(handle)
        watch.note(handle, time.thread_time() - began)

    asyncio.Handle._run = run  # type: ignore[method-assign, assignment]
    try:
        yield watch
    finally:
        asyncio.Handle._run = original  # type: ignore[method-assign]
