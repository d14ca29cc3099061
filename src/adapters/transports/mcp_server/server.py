"""The MCP server, by the `mcp` package, which takes most of a second to import."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import mcp_types as types
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError

from ....domain.access import Principal
from ....domain.agents import Agent
from ....domain.errors import GatewayError
from ....domain.services import Gateway
from ....domain.tools import Decision
from ..http.context import RequestContext
from .calls import (
    INPUT_SCHEMA,
    OUTPUT_SCHEMA,
    PREFIX,
    CallResult,
    Calls,
    description_of,
    plain_text,
)
from .exchange import Exchange, Message
from .forms import can_show_forms, decision_by_form
from .sessions import Sessions

_EXCHANGE = "opensoul.exchange"
"""Where the scope of a request has its Exchange."""
_SESSION_ID = b"mcp-session-id"
_SECRETS = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"x-api-key"})
_OF_BODY = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
"""Headers of the body as it was sent; the server gets it unpacked."""
_IDLE_SECONDS = 30 * 60.0
_LAST_WORDS = 2.0
"""Seconds in which responses are completed when the Gateway stops and all runs have ended."""
_MOST_SESSIONS = 2_000
_MOST_OF_ONE = 200
"""Sessions of one principal. A session takes about 36 KiB."""
_CHANGED = (
    b'event: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\r\n\r\n'
)
_INSTRUCTIONS = (
    "Each tool asks one agent. To go on with a conversation, send the `session_key` of the last "
    "result; in a session, an agent goes on by itself. Where an answer asks for an approval, let "
    "a person decide, and send the line `approve CODE` or `deny CODE` as the next message to the "
    "same tool."
)

_Context = Any
"""What handlers get; its type has the parameters of the package's own choice."""


class _Server(Server[Any]):
    """A server whose list of tools changes."""

    def create_initialization_options(
        self, notification_options: NotificationOptions | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        options = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(options, *args, **kwargs)


class AgentServer:
    """The sessions, and the handlers of their messages. `run` serves until `stop` is called."""

    def __init__(self, gateway: Gateway, calls: Calls, *, version: str, body_bytes: int) -> None:
        self._gateway = gateway
        self._calls = calls
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus)
        self._manager = StreamableHTTPSessionManager(
            _Server(
                "opensoul",
                title="OpenSoul Gateway",
                version=version,
                instructions=_INSTRUCTIONS,
                on_list_tools=self._list_tools,
                on_call_tool=self._call_tool,
                on_subscriptions_listen=self._subscribe,
            ),
            session_idle_timeout=_IDLE_SECONDS,
            max_sessions=_MOST_SESSIONS,
            max_request_body_size=body_bytes,
        )
        self._sessions = Sessions(_MOST_OF_ONE)
        self._streams: dict[Exchange, list[str]] = {}
        """The open streams for notifications, and the tools that their clients know of."""
        self._generation = ""
        self._stopped = asyncio.Event()
        self._pending = 0
        """Messages whose responses are not complete."""
        self._answered = asyncio.Event()
        """There are none."""
        self._answered.set()

    async def run(self, ready: asyncio.Future[None], *, every: float) -> None:
        """`every`: seconds between two looks at the configuration."""
        self._generation = self._gateway.settings.generation
        async with self._manager.run():
            ready.set_result(None)
            while not self._stopped.is_set():
                try:
                    async with asyncio.timeout(every):
                        await self._stopped.wait()
                except TimeoutError:
                    await self._notify_changes()
            self._listen.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._answered.wait()

    def stop(self) -> None:
        self._stopped.set()

    async def answer(
        self,
        exchange: Exchange,
        method: str,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
    ) -> Message:
        """The head of the response."""
        context = exchange.context
        # What a session keeps of its requests has no secret.
        kept = [pair for pair in headers if pair[0] not in _SECRETS | _OF_BODY]
        scope = {**_scope(method, kept, context.principal), _EXCHANGE: exchange}
        if method == "GET":
            self._streams[exchange] = self._names(exchange)
            exchange.parts.callback(self._streams.pop, exchange)
        else:
            self._pending += 1
            self._answered.clear()
            exchange.parts.callback(self._end_message)
        head = await exchange.answer(self._manager.handle_request, scope, body)
        await self._note_session(context, method, head)
        return head

    def _end_message(self) -> None:
        self._pending -= 1
        if not self._pending:
            self._answered.set()

    async def _note_session(self, context: RequestContext, method: str, head: Message) -> None:
        """End the principal's least recently used session where it has too many."""
        principal = context.principal
        named = dict(head["headers"]).get(_SESSION_ID, b"").decode("latin-1")
        if method == "DELETE" or head["status"] == 404:
            self._sessions.forget(
                principal.id, context.headers.get(_SESSION_ID, b"").decode("latin-1")
            )
        elif named and head["status"] < 400:
            oldest = self._sessions.used(principal.id, named)
            if oldest is not None:
                await self._end_session(principal, oldest)

    async def _end_session(self, principal: Principal, session_id: str) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_: Message) -> None:
            """The answer is of no interest: the session may have ended before."""

        scope = _scope("DELETE", [(_SESSION_ID, session_id.encode())], principal)
        await self._manager.handle_request(scope, receive, send)

    async def _list_tools(
        self, context: _Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        if params is not None and params.cursor:
            raise MCPError(types.INVALID_PARAMS, "Unknown cursor: all tools are on one page.")
        agents = self._agents(_exchange_of(context))
        return types.ListToolsResult(tools=[_tool(agent) for agent in agents])

    async def _call_tool(
        self, context: _Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        exchange = _exchange_of(context)
        agents = self._agents(exchange)
        request_context = exchange.context
        agent = next((agent for agent in agents if PREFIX + agent.id == params.name), None)
        if agent is None:
            known = ", ".join(PREFIX + agent.id for agent in agents)
            shown = plain_text(params.name)[:100]
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {shown}. Tools: {known}.")
        wants_progress = bool(context.meta) and context.meta.get("progress_token") is not None

        async def report(number: int, text: str) -> None:
            await context.session.report_progress(number, message=plain_text(text))

        async def ask(text: str) -> Decision | None:
            return await decision_by_form(context.session, text, context.request_id)

        # A task of its own: the request's end cancels it, and must not cancel the session's task.
        task = asyncio.create_task(
            self._calls.call(
                request_context,
                agent,
                params.arguments or {},
                session_id=context.request.headers.get(_SESSION_ID.decode()),
                report=report if wants_progress else None,
                ask=ask if can_show_forms(context.session) else None,
            )
        )
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            request_context.outcome = "aborted"
            task.cancel()
            raise
        if task.cancelled():
            return _result(CallResult("The run was aborted: its client has left.", True))
        return _result(task.result())

    async def _subscribe(
        self, context: _Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        exchange = _exchange_of(context)
        principal = exchange.context.principal
        with self._gateway.access.hold(principal, lambda _: exchange.leave()):
            return await self._listen(context, params)

    def _agents(self, exchange: Exchange) -> list[Agent]:
        try:
            return list(self._calls.agents(exchange.context.principal))
        except GatewayError as error:
            raise MCPError(types.INVALID_REQUEST, error.message) from None

    def _names(self, exchange: Exchange) -> list[str]:
        try:
            return [agent.id for agent in self._calls.agents(exchange.context.principal)]
        except GatewayError:
            return []

    async def _notify_changes(self) -> None:
        generation = self._gateway.settings.generation
        if generation == self._generation:
            return
        self._generation = generation
        for exchange, known in list(self._streams.items()):
            names = self._names(exchange)
            if names != known:
                self._streams[exchange] = names
                exchange.insert(_CHANGED)
        await self._bus.publish(ToolsListChanged())


def _scope(method: str, headers: list[tuple[bytes, bytes]], principal: Principal) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "/mcp",
        "raw_path": b"/mcp",
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": None,
        # The server refuses the session of another user as if it were unknown.
        "user": AuthenticatedUser(AccessToken(token="", client_id=principal.id, scopes=[])),
    }


def _exchange_of(context: _Context) -> Exchange:
    found: Exchange = context.request.scope[_EXCHANGE]
    return found


def _tool(agent: Agent) -> types.Tool:
    return types.Tool(
        name=PREFIX + agent.id,
        title=plain_text(agent.name),
        description=description_of(agent),
        input_schema=dict(INPUT_SCHEMA),
        output_schema=dict(OUTPUT_SCHEMA),
    )


def _result(result: CallResult) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=result.text)],
        structured_content=result.structured,
        is_error=result.is_error,
    )
