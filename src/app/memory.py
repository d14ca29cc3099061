"""Gives memory back to the system after large requests; glibc would keep most of it.

Elsewhere than on Linux with glibc nothing is done here.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

from ..domain.in_flight import InFlight

_M_MMAP_THRESHOLD = -3
_THRESHOLD = 256 * 1024
PAUSE = 2.0
"""Seconds between a large request's end and the giving back: what is made of it ends soon, too."""


def give_large_blocks_back() -> None:
    """Have each block from 256 KiB on be its own mapping, which is unmapped when it is freed.

    Left alone, glibc raises this threshold to the largest block that was ever freed, 32 MiB at
    most: bodies would come from the heap, and leave holes in it.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)


def heap_trimmer() -> Callable[[], object] | None:
    """What returns the free pages of the heaps, of all threads, to the system; None where the
    system has no such thing. It takes a few milliseconds for each 100 MB, without the
    interpreter's lock."""
    trim = _function("malloc_trim")
    return None if trim is None else lambda: trim(0)


class Trimming:
    """Trims the heaps some time after each large request, or after several of them at once."""

    def __init__(
        self, in_flight: InFlight, trim: Callable[[], object], *, pause: float = PAUSE
    ) -> None:
        self._trim = trim
        self._pause = pause
        self._due = asyncio.Event()
        in_flight.on_large_release = self._due.set

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._due.wait()
            await asyncio.sleep(self._pause)
            self._due.clear()
            await asyncio.to_thread(self._trim)


def _function(name: str) -> Callable[..., object] | None:
    """A function of the C library this process runs with, where that is glibc."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    function: Callable[..., object] | None = getattr(library, name, None)
    return function
