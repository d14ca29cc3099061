"""Handles the signals of the operating system."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterable

logger = logging.getLogger(__name__)

_STOPPING = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGPWR", "SIGXCPU")
"""Each starts the drain. SIGHUP: the terminal was closed. SIGPWR: a power failure. SIGXCPU: the
soft limit of processor time, some seconds before the hard one."""
_ENDING = ("SIGTERM", "SIGINT", "SIGQUIT")
"""Each ends the process at once during the drain. Not SIGHUP, which a closed terminal sends twice
(kernel and shell), nor SIGXCPU, which repeats every second."""
_IGNORED = ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGSTKFLT")
"""Their default action would end the process without a drain.

Not handled are the signals of faults (such as SIGSEGV and SIGABRT, which make a core dump), those
of job control, and SIGPIPE and SIGXFSZ, which Python ignores, so that the write fails instead.
"""


def stop_on_signals() -> asyncio.Event:
    """Install handlers on the running loop; the event is set by the first signal to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_stop(received: signal.Signals) -> None:
        if not stop.is_set():
            logger.info("stopping: runs may finish first", extra={"signal": received.name})
            stop.set()
        elif received.name in _ENDING:
            # Safe, because turns are stored atomically.
            os._exit(128 + received)

    def on_ignored(received: int, name: str) -> None:
        logger.warning(
            "signal ignored; SIGTERM stops the Gateway", extra={"signal": name, "number": received}
        )

    for stopping in _known(_STOPPING):
        # `nohup` ignores SIGHUP before the start, to keep the program running.
        if stopping.name != "SIGHUP" or signal.getsignal(stopping) is not signal.SIG_IGN:
            loop.add_signal_handler(stopping, on_stop, stopping)
    for number, name in _to_be_ignored():
        # An existing handler belongs to a profiler or another tool.
        if signal.getsignal(number) is signal.SIG_DFL:
            loop.add_signal_handler(number, on_ignored, number, name)
    return stop


def _known(names: Iterable[str]) -> list[signal.Signals]:
    """The signals that exist on this system."""
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]


def _to_be_ignored() -> list[tuple[int, str]]:
    named = [(int(known), known.name) for known in _known(_IGNORED)]
    if not hasattr(signal, "SIGRTMIN"):
        return named
    realtime = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
    return named + [(number, f"SIGRTMIN+{number - signal.SIGRTMIN}") for number in realtime]
