"""Work that is too long for the event loop, done in a thread where it is large.

The interpreter runs one thread at a time, but takes turns every few milliseconds: the loop goes on
between the pieces of such work. A single call into C (parsing one JSON text, say) is one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from ..messages import Image, Message

T = TypeVar("T")

LARGE = 256 * 1024
"""Bytes of input from which on work goes to a thread; below, the way there costs more."""


_MANY = 64


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """What `work` returns or raises, at once where `size` is small.

    The loop's default executor has few threads, which bounds how much of this happens at once.
    """
    return work() if size < LARGE else await asyncio.to_thread(work)


async def take_turns(done: int) -> None:
    """Let the loop go round where many things were `done` at once, for more may be there already:
    to read a log that is in memory never waits."""
    if done >= _MANY:
        await asyncio.sleep(0)


def image_bytes(messages: Iterable[Message]) -> int:
    """Of the pictures, as base64. Texts are small beside them."""
    return sum(
        len(part.data)
        for message in messages
        # Nearly all messages have one part, a text.
        if len(message.parts) != 1 or isinstance(message.parts[0], Image)
        for part in message.parts
        if isinstance(part, Image)
    )
