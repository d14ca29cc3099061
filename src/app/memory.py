"""Has memory given back to the system after large requests; glibc would keep most of it."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_THRESHOLD = 512 * 1024
"""More than the buffer of 256 KiB that the event loop asks for to read one TLS record: a mapping
for each record, which may hold a single byte, took twenty times as long as the record itself."""


def give_large_blocks_back() -> bool:
    """Have each block from 512 KiB on be its own mapping, which is unmapped when it is freed.

    Left alone, glibc raises this threshold to the largest block that was ever freed, 32 MiB at
    most: bodies would come from the heap, and leave holes in it that stay. False where the C
    library is another one: nothing is done then.
    """
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return False
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_MMAP_THRESHOLD, _THRESHOLD))
