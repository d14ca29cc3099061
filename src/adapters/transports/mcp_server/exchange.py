"""One HTTP request that is answered by an ASGI application within a Quart view."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import ExitStack
from contextvars import Context
from typing import Any

from ....domain.concurrency import drop_traceback_of
from ....domain.errors import RunAborted
from ..http.context import RequestContext

Message = MutableMapping[str, Any]
App = Callable[[dict[str, Any], Callable[[], Awaitable[Message]], Any], Awaitable[None]]

logger = logging.getLogger(__name__)

_PATIENCE = 1.0
"""Seconds in which the application ends by itself after its client has left."""


class Exchange:
    """The application's task, and what it sends.

    It is a context manager, which is left when the request ends: the application then gets
    `http.disconnect`. It runs in a context of its own, so that what it starts and keeps does not
    keep the request.
    """

    def __init__(self, context: RequestContext) -> None:
        self._context: RequestContext | None = context
        self.parts = ExitStack()
        """Is closed when the request ends."""
        self._body = b""
        self._received = False
        self._left = asyncio.Event()
        self._head: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Exchange:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.parts.close()
        self.leave()
        while not self._pieces.empty():  # The application may wait until they are taken.
            self._pieces.get_nowait()
            self._pieces.task_done()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=_PATIENCE)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        drop_traceback_of(self._task)
        # The application may refer to this in cycles, which only the garbage collector breaks.
        self._task = self._context = None
        self._pieces = asyncio.Queue()

    @property
    def context(self) -> RequestContext:
        """The request. Raises RunAborted when it has ended."""
        if self._context is None:
            raise RunAborted("The client left.")
        return self._context

    async def answer(self, app: App, scope: dict[str, Any], body: bytes) -> Message:
        """The head of the response. Raises what the application raises before it."""
        self._body = body
        self._task = asyncio.create_task(self._run(app, scope), context=Context())
        ends: set[asyncio.Future[Any]] = {self._head, self._task}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not self._head.done():
            self._head.cancel()
            await self._task
            raise RuntimeError("The application has sent no response.")
        return self._head.result()

    async def body(self) -> AsyncGenerator[bytes]:
        """The pieces of the response's body. It ends when the application has returned, because an
        application may handle a message after its response."""
        while (piece := await self._pieces.get()) is not None:
            try:
                yield piece
            finally:
                self._pieces.task_done()

    def insert(self, piece: bytes) -> None:
        """Put `piece` into the body, between two pieces of the application's."""
        self._pieces.put_nowait(piece)

    def leave(self) -> None:
        """Have the application end as if its client had left."""
        self._left.set()

    async def _run(self, app: App, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception:
            # The outermost handler of the application: a response that has begun ends here.
            if not self._head.done():
                raise
            request_id = "" if self._context is None else self._context.request_id
            logger.exception("a response ended unexpectedly", extra={"request": request_id})
        finally:
            self._pieces.put_nowait(None)

    async def _receive(self) -> Message:
        if not self._received:
            self._received = True
            body, self._body = self._body, b""
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        """Return when the server has taken the message, so that a client that does not read stops
        the application."""
        if message["type"] == "http.response.start":
            if not self._head.done():
                self._head.set_result(message)
            return
        piece = message.get("body", b"")
        if piece and not self._left.is_set():
            self._pieces.put_nowait(piece)
            await self._pieces.join()
