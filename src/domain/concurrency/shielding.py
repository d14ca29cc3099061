"""Work that is finished whether or not its caller waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def shielded(work: Coroutine[Any, Any, T] | asyncio.Future[T]) -> asyncio.Future[T]:
    """`asyncio.shield`, except that a failure after the caller was cancelled is not reported by
    the event loop as an exception that was never retrieved: nobody is left to retrieve it."""
    future = asyncio.ensure_future(work)
    future.add_done_callback(_retrieve)
    return asyncio.shield(future)


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
