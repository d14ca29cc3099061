"""One server: started on first use, and again after it ended."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...domain.ports import Clock
from ...domain.settings import McpServerSettings
from ...domain.tools import ToolOutput, ToolResult
from .confinement import Confiner
from .errors import ConnectionLost, Diagnostics, ServerUnavailable, masked
from .tools import RemoteTool, faults

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger(__name__)

_LONGEST_WAIT = 60.0
_MOST_PROGRESS = 64
"""Pieces of progress that wait for a slow reader; older ones are dropped."""
_CANCEL_GRACE = 5.0
_CLOSE_GRACE = 10.0
_LONGEST_NOTE = 2_000
"""Characters of a log line about tools."""

Open = Callable[[Callable[[], None]], AbstractAsyncContextManager["Connection"]]
"""Opens a connection; the argument is called when it is lost."""


class State(StrEnum):
    IDLE = "idle"
    """Not started yet, or ended since its last use; the next use starts it."""
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    """The last start failed."""


class _Attempt:
    """A start of the server, and the connection that it leads to. One task enters and leaves the
    connection, as the task groups of the `mcp` package require."""

    def __init__(self, open_connection: Open, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Connection] = loop.create_future()
        self.ready.add_done_callback(_retrieve)
        self.retired = False
        """No new call may use it; it ends after the last one that does."""
        self._calls = 0
        self._stop = asyncio.Event()
        self._limit = loop.call_later(seconds, self._expire, seconds)
        self.task = asyncio.create_task(self._own(open_connection))

    def begin(self) -> None:
        self._calls += 1

    def end(self) -> None:
        self._calls -= 1
        if self.retired and not self._calls:
            self._stop.set()

    def retire(self) -> None:
        self.retired = True
        if not self._calls:
            self._stop.set()

    async def close(self) -> None:
        """End the connection now, and the process with it."""
        self.retired = True
        self._stop.set()
        if not self.ready.done():
            self.task.cancel()
        _, pending = await asyncio.wait([self.task], timeout=_CLOSE_GRACE)
        if pending:
            self.task.cancel()
            await asyncio.wait([self.task], timeout=_CLOSE_GRACE)

    async def _own(self, open_connection: Open) -> None:
        try:
            async with open_connection(self.retire) as connection:
                self._limit.cancel()
                if not self.ready.done():
                    self.ready.set_result(connection)
                await self._stop.wait()
        except (Exception, BaseExceptionGroup, asyncio.CancelledError) as error:
            # Also a cancellation that is not ours: a lost HTTP connection cancels this task.
            if self.ready.done():
                extra = {"error": type(_cause(error)).__name__}
                logger.debug("a connection with an MCP server ended with an error", extra=extra)
            else:
                self.ready.set_exception(ServerUnavailable(_sentence(_cause(error))))
        finally:
            self._limit.cancel()
            self.retired = True

    def _expire(self, seconds: float) -> None:
        if not self.ready.done():
            problem = ServerUnavailable(f"it was not ready within {seconds:g} seconds")
            self.ready.set_exception(problem)
            self.task.cancel()


class McpServer:
    """A server by its settings. `monotonic` is a clock in seconds; `confiner`: of its processes,
    None to run them without a sandbox.

    Failed starts make the next one wait: a second, then twice as long each time, up to a minute. A
    server that ended by itself is started again at once.
    """

    def __init__(
        self,
        settings: McpServerSettings,
        environ: Mapping[str, str],
        *,
        confiner: Confiner | None = None,
        monotonic: Clock,
    ) -> None:
        self.settings = settings
        self._environ = environ
        self._confiner = confiner
        self._monotonic = monotonic
        self._secrets = [value for _, value in (*settings.env, *settings.headers)]
        self._diagnostics = Diagnostics(self._secrets)
        self._attempt: _Attempt | None = None
        self._attempts: set[_Attempt] = set()
        """Those whose task has not ended: the current one, and retired ones."""
        self._failures = 0
        self._not_before = 0.0
        self._problem = ""
        self._tools: tuple[RemoteTool, ...] | None = None
        self._faults: Mapping[str, str] = {}
        """Those of the last list."""
        self._stale = True
        self._listing: asyncio.Task[None] | None = None
        self._listing_since = 0.0
        self._unreliable = False
        """The last list was not obtained: no run waits for the next one."""
        self._closed = False

    @property
    def known(self) -> tuple[RemoteTool, ...] | None:
        """The tools as they were listed last; None before that."""
        return self._tools

    def health(self) -> tuple[State, str, str]:
        """The state, the server's own name and version, and what is wrong."""
        attempt = self._attempt
        if attempt is not None and not attempt.retired:
            if not attempt.ready.done():
                return State.STARTING, "", self._problem
            if attempt.ready.exception() is None:
                return State.RUNNING, attempt.ready.result().about, self._problem
        return (State.FAILED if self._failures else State.IDLE), "", self._problem

    async def tools(self, *, patience: float) -> tuple[RemoteTool, ...]:
        """The tools; those listed before, or none, where listing them takes longer than `patience`
        seconds. It goes on, and later calls do not wait for it again; nor do they after a list that
        was not obtained, until there is one."""
        if self._tools is not None and not self._stale:
            return self._tools
        if self._listing is None:
            if self._monotonic() < self._not_before:
                return self._tools or ()
            self._listing_since = self._monotonic()
            self._listing = asyncio.create_task(self._list())
        left = self._listing_since + patience - self._monotonic()
        if left > 0 and not self._unreliable:
            await asyncio.wait([self._listing], timeout=left)
        return self._tools or ()

    async def listed(self) -> tuple[RemoteTool, ...]:
        """The tools, as the server lists them now. Raises ServerUnavailable."""
        attempt = await self._connected()
        attempt.begin()
        try:
            self._stale = False  # Before the request: a change during it counts.
            self._tools = await attempt.ready.result().tools()
        except BaseException as error:
            self._stale = True
            if not isinstance(error, Exception):
                raise
            if isinstance(error, ConnectionLost):
                attempt.retire()
            self._problem = self._with_diagnostics(f"it did not list its tools: {_sentence(error)}")
            raise ServerUnavailable(self._problem) from error
        finally:
            attempt.end()
        self._problem = ""
        self._note_faults(faults(self.settings, self._tools))
        return self._tools

    async def call(
        self, tool: str, arguments: dict[str, Any]
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        """Call a tool, once. Closing the stream cancels the call."""
        name = self.settings.name
        try:
            attempt = await self._connected()
        except ServerUnavailable:  # The reason may quote the server; health() has it.
            text = f"The MCP server {name!r} is not available now. The tool was not called."
            yield ToolResult(text, is_error=True)
            return
        progress: deque[str] = deque(maxlen=_MOST_PROGRESS)
        news = asyncio.Event()

        def on_progress(text: str) -> None:
            progress.append(text)
            news.set()

        attempt.begin()
        work = attempt.ready.result().call(tool, arguments, on_progress)
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: news.set())
        try:
            while True:
                await news.wait()
                news.clear()
                done = task.done()
                while progress:
                    yield ToolOutput(progress.popleft())
                if done:
                    break
            yield self._result_of(task, attempt)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=_CANCEL_GRACE)
            attempt.end()

    async def close(self) -> None:
        self._closed = True
        if self._listing is not None:
            self._listing.cancel()
            await asyncio.wait([self._listing])
        await asyncio.gather(*(attempt.close() for attempt in self._attempts))

    def _note_faults(self, found: Mapping[str, str]) -> None:
        if found and found != self._faults:
            name, listed = (
                self.settings.name,
                "; ".join(f"{tool!r}: {why}" for tool, why in found.items()),
            )
            extra = {"server": name, "tools": listed[:_LONGEST_NOTE]}
            logger.warning("tools of an MCP server are left out", extra=extra)
        self._faults = found

    def _result_of(self, task: asyncio.Task[ToolResult], attempt: _Attempt) -> ToolResult:
        try:
            return task.result()
        except ConnectionLost as error:
            attempt.retire()
            self._problem = self._with_diagnostics(str(error))
            text = (
                f"The MCP server {self.settings.name!r} did not finish the call: {error}. It is "
                "not known whether the call had an effect, and it was not made again."
            )
            return ToolResult(text, is_error=True)

    async def _list(self) -> None:
        try:
            await self.listed()
            self._unreliable = False
        except ServerUnavailable as error:
            self._unreliable = True
            extra = {"server": self.settings.name, "problem": str(error)}
            logger.info("runs are without the tools of an MCP server", extra=extra)
        finally:
            self._listing = None

    async def _connected(self) -> _Attempt:
        """A connection that is ready. Raises ServerUnavailable."""
        attempt = self._attempt
        if attempt is None or attempt.retired:
            attempt = self._attempt = self._start()
        try:
            await asyncio.shield(attempt.ready)
        except ServerUnavailable:
            raise ServerUnavailable(self._problem or "it is being closed") from None
        if attempt.retired:
            raise ServerUnavailable(self._with_diagnostics("it ended right after its start"))
        return attempt

    def _start(self) -> _Attempt:
        left = self._not_before - self._monotonic()
        if left > 0:
            problem = f"{self._problem}; its next start is in {left:.0f} seconds"
            raise ServerUnavailable(problem)
        if self._closed:
            raise ServerUnavailable("the Gateway is closing it")
        self._diagnostics.clear()
        attempt = _Attempt(self._open, self.settings.connection_timeout)
        attempt.ready.add_done_callback(self._started)
        self._attempts.add(attempt)
        attempt.task.add_done_callback(lambda _: self._attempts.discard(attempt))
        return attempt

    @asynccontextmanager
    async def _open(self, on_lost: Callable[[], None]) -> AsyncGenerator[Connection]:
        # The `mcp` package takes most of a second to import.
        module = await asyncio.to_thread(import_module, ".connection", __package__)
        async with module.connect(
            self.settings,
            self._environ,
            self._confiner,
            self._diagnostics,
            on_changed=self._changed,
            on_lost=on_lost,
        ) as connection:
            yield connection

    def _started(self, ready: asyncio.Future[Connection]) -> None:
        error = None if ready.cancelled() else ready.exception()
        if error is None:
            self._failures, self._not_before, self._problem = 0, 0.0, ""
            if self.settings.url:
                self._diagnostics.clear()  # Of requests of a revision that it does not know.
            self._stale = True  # Another version of the server may have other tools.
            return
        if self._closed:
            return
        self._failures += 1
        wait = min(_LONGEST_WAIT, 2.0 ** (self._failures - 1))
        self._not_before = self._monotonic() + wait
        self._problem = self._with_diagnostics(str(error))
        name = self.settings.name
        extra = {"server": name, "problem": self._problem, "next_start_in": wait}
        # Named in the text too: the command line prints no fields.
        logger.warning("the MCP server %r did not start", name, extra=extra)

    def _changed(self) -> None:
        self._stale = True

    def _with_diagnostics(self, problem: str) -> str:
        """The problem for people, without secrets."""
        last = self._diagnostics.text.splitlines()[-1:]
        text = f"{problem} ({last[0][:300]})" if last else problem
        # Errors of HTTP quote the URL.
        query = urlsplit(self.settings.url).query
        return masked(text, [*(secret.reveal() for secret in self._secrets), query])


def _retrieve(ready: asyncio.Future[Connection]) -> None:
    """Nobody may wait any more; asyncio reports exceptions that are not retrieved."""
    if not ready.cancelled():
        ready.exception()


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _sentence(error: BaseException) -> str:
    if isinstance(error, ServerUnavailable | ConnectionLost):
        return str(error)
    text = (getattr(error, "strerror", None) or str(error)).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
