"""Frames of one run, taken as fast as the client reads."""

from __future__ import annotations

import asyncio

from .....domain.errors import GatewayError, RunFailed
from .....domain.runs import Aborted, Failed, error_of
from .....domain.services import Events
from ...http.context import RequestContext
from .sse import RunFrames


class Feed:
    """What there is of a run's events is taken at once: a client that lags gets fewer and larger
    pieces, and what it has not taken waits in the run's log. `patience` is in seconds.
    """

    __slots__ = ("_context", "_events", "_failure", "_frames", "_patience")

    def __init__(
        self, events: Events, frames: RunFrames, context: RequestContext, *, patience: float
    ) -> None:
        self._events = events
        self._frames = frames
        self._context = context
        self._patience = patience
        self._failure: GatewayError | None = None

    async def take(self) -> bytes | None:
        """The frames there are, or the next ones; empty at the end, None after `patience` seconds
        of silence. Raises, once all frames are taken, what the run's events ended with."""
        frames = b""
        try:
            async with asyncio.timeout(self._patience) as silence:
                while not frames and not self._frames.ended:
                    frames = await self._next()
        except TimeoutError:
            if not silence.expired():
                raise
            return None
        return frames

    async def _next(self) -> bytes:
        """The frames of the next events; empty where those tell the client nothing."""
        if self._failure is not None:
            raise self._failure
        try:
            batch = await anext(self._events)
        except StopAsyncIteration:
            raise RunFailed("The run ended without an end.") from None
        self._context.observe(batch)
        if isinstance(ending := batch.ending, Failed | Aborted):
            self._failure = error_of(ending)
        return self._frames.of(batch.events)
