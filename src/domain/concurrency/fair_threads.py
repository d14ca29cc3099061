"""Threads beside the event loop that hardly delay it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SWITCH_SECONDS = 0.0005
"""The interpreter's switch interval while such a thread works."""

_lock = threading.Lock()
_working = 0
"""How many threads of all FairThreads work now."""
_usual = 0.0
"""The switch interval that is restored."""


class FairThreads(ThreadPoolExecutor):
    """A ThreadPoolExecutor for work that takes a while.

    The event loop gives up the interpreter in each system call, and gets it back from a thread that
    computes only after the switch interval: Python's 5 ms, times the number of such threads,
    several times a request. So the interval is shorter while one of these threads works. It is
    Python's otherwise, because a short one wakes the threads that store turns too early: they then
    commit fewer turns together.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(_fairly, fn, *args, **kwargs)


def _fairly(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    global _working, _usual
    with _lock:
        _working += 1
        if _working == 1:
            _usual = sys.getswitchinterval()
            sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        return fn(*args, **kwargs)
    finally:
        with _lock:
            _working -= 1
            if not _working:
                sys.setswitchinterval(_usual)
