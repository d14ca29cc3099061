"""A connection with a server, by the `mcp` package. Imported on first use: it is large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

import anyio
import httpx2
import jsonschema  # noqa: F401 - otherwise `mcp` imports it in the first call, on the event loop
from mcp import Client, MCPError
from mcp.client._transport import Transport
from mcp.client.session import IncomingMessage
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    REQUEST_TIMEOUT,
    Implementation,
    TextContent,
    ToolListChangedNotification,
)
from pydantic import ValidationError

from ...domain.concurrency import LARGE, off_loop
from ...domain.settings import McpServerSettings
from ...domain.tools import ToolResult
from .confinement import Confiner
from .errors import MOST_BYTES, ConnectionLost, Diagnostics
from .http import limited_client, noting_errors
from .results import error_result, remote_tools, tool_result
from .stdio import stdio_transport
from .tools import RemoteTool

_TRANSPORT_ERRORS = (
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    httpx2.TransportError,
)
_HTTP_TIMEOUT = httpx2.Timeout(30.0, read=None)
"""Calls have a timeout of their own, and a stream of events may be silent."""
_LONGEST_ABOUT = 100
_MOST_TOOLS = 500
_MOST_PAGES = 50


class Connection:
    """Methods may be called from any task."""

    def __init__(self, server: McpServerSettings, client: Client) -> None:
        self._server = server
        self._client = client

    @property
    def about(self) -> str:
        """The server's own name and version, where it says them."""
        info = self._client.server_info
        return "" if info is None else f"{info.name} {info.version}".strip()[:_LONGEST_ABOUT]

    async def tools(self) -> tuple[RemoteTool, ...]:
        """All tools, of all pages. Raises ConnectionLost, MCPError."""
        found: list[RemoteTool] = []
        cursor: str | None = None
        try:
            for _ in range(_MOST_PAGES):
                page = await self._client.list_tools(cursor=cursor, cache_mode="bypass")
                found += await asyncio.to_thread(remote_tools, page.tools)
                cursor = page.next_cursor
                if cursor is None or len(found) >= _MOST_TOOLS:
                    break
        except MCPError as error:
            raise self._lost(error) from error
        return tuple(found[:_MOST_TOOLS])

    async def call(
        self, tool: str, arguments: dict[str, Any], on_progress: Callable[[str], None]
    ) -> ToolResult:
        """The result, also where the server refuses the call. Raises ConnectionLost.

        Cancelling it has the server cancel the call.
        """

        async def on_notice(progress: float, total: float | None, message: str | None) -> None:
            of = "" if total is None else f" of {total:g}"
            on_progress(message or f"{progress:g}{of}")

        name = self._server.name
        try:
            result = await self._client.call_tool(tool, arguments, progress_callback=on_notice)
        except MCPError as error:
            lost = self._lost(error)
            if lost is not error:
                raise lost from error
            if error.code == REQUEST_TIMEOUT:
                seconds = self._server.request_timeout
                text = f"The MCP server {name!r} did not answer within {seconds:g} seconds."
                return ToolResult(text, is_error=True)
            return error_result(name, error.message)
        except _TRANSPORT_ERRORS as error:
            raise ConnectionLost(f"the connection to it failed ({type(error).__name__})") from error
        except (RuntimeError, ValidationError):
            # Not its text, which quotes the content.
            text = f"The MCP server {name!r} ran the tool, and sent a result that is not valid."
            return ToolResult(text, is_error=True)
        texts = [block.text for block in result.content if isinstance(block, TextContent)]
        # The size of structured content is not known before it is JSON.
        size = sum(map(len, texts)) if texts else LARGE
        return await off_loop(size, lambda: tool_result(name, result))

    async def follow_changes(
        self, on_changed: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        """Call `on_changed` at each change of the list of tools, until the connection ends.

        Servers of older revisions send changes without being asked.
        """
        try:
            async with self._client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    on_changed()
        except (ListenNotSupportedError, TimeoutError):
            return
        except SubscriptionLost:
            lost()
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                lost()

    def _lost(self, error: MCPError) -> Exception:
        """ConnectionLost, where the error means that."""
        if error.code == CONNECTION_CLOSED:
            return ConnectionLost("the connection to it ended")
        if (
            error.code == INVALID_REQUEST
            and self._server.url
            and "session" in error.message.lower()
        ):
            return ConnectionLost("it does not know the session any more")
        return error


@asynccontextmanager
async def connect(
    server: McpServerSettings,
    environ: Mapping[str, str],
    confiner: Confiner | None,
    diagnostics: Diagnostics,
    *,
    on_changed: Callable[[], None],
    on_lost: Callable[[], None],
) -> AsyncGenerator[Connection]:
    """A connection while the context lasts; it must be entered and left in one task.

    `on_changed`: the list of tools changed. `on_lost`: the connection cannot be used any more.
    Raises ServerUnavailable, and what the transport raises, in exception groups too.
    """

    async def received(message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            on_changed()

    client = Client(
        _transport(server, environ, confiner, diagnostics, on_lost),
        read_timeout_seconds=server.request_timeout,
        message_handler=received,
        client_info=Implementation(name="opensoul", version=version("opensoul")),
        cache=None,
    )
    async with client:
        connection = Connection(server, client)
        following = asyncio.create_task(connection.follow_changes(on_changed, on_lost))
        try:
            yield connection
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following


def _transport(
    server: McpServerSettings,
    environ: Mapping[str, str],
    confiner: Confiner | None,
    diagnostics: Diagnostics,
    on_lost: Callable[[], None],
) -> Transport:
    if not server.url:
        return stdio_transport(server, environ, confiner, diagnostics, on_lost)
    headers = {name: value.reveal() for name, value in server.headers}
    if server.sse:
        return sse_client(server.url, headers, httpx_client_factory=_sse_http_client)
    return _streamable(server.url, headers, diagnostics)


def _sse_http_client(
    headers: dict[str, str] | None = None,
    timeout: httpx2.Timeout | None = None,
    auth: httpx2.Auth | None = None,
) -> httpx2.AsyncClient:
    """`timeout` would end an idle connection."""
    return limited_client(headers, _HTTP_TIMEOUT, auth)


@asynccontextmanager
async def _streamable(
    url: str, headers: dict[str, str], diagnostics: Diagnostics
) -> AsyncGenerator[Any]:
    client = limited_client(headers, _HTTP_TIMEOUT)
    client.event_hooks["response"].append(noting_errors(diagnostics.add))
    async with (
        client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MOST_BYTES) as streams,
    ):
        yield streams
