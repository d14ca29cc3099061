"""Returns memory to the system after large requests; by default glibc keeps most of it."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_THRESHOLD = 512 * 1024
"""More than the event loop's buffer of 256 KiB for a TLS record: a mapping per record, which may
contain a single byte, takes twenty times as long as the record itself."""


def give_large_blocks_back() -> bool:
    """Allocate each block of 512 KiB or more as its own mapping, which is unmapped when freed.

    By default glibc raises this threshold to the largest block that was freed, 32 MiB at most, so
    bodies are allocated on the heap and fragment it. Returns False if the C library is another one.
    """
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return False
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_MMAP_THRESHOLD, _THRESHOLD))
