"""A state directory that this process holds for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opensoul.adapters.system.files import StateLock


@contextmanager
def held(lock: StateLock) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
