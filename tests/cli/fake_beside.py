"""A fake Gateway in a thread of its own, for commands that have an event loop of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.client.fake_gateway import FakeGateway, serving


@contextmanager
def beside(fake: FakeGateway) -> Iterator[FakeGateway]:
    """Serve it while the context lasts."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving(fake):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield fake
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
