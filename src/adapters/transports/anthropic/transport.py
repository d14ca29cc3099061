"""`POST /v1/messages` and `/v1/messages/count_tokens`, as in Anthropic's API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from quart import Response, request

from ....domain.access import Scope
from ....domain.agents import AgentDirectory
from ....domain.errors import InvalidRequest
from ....domain.ports import WebClient
from ....domain.runs import SCHEMA_PARAM, RunRequest, answer_format
from ....domain.services import Approvals, Gateway, TokenCounts
from ..answering import (
    begin_run,
    collect,
    ignored_names,
    run_request_of,
    streamed,
    waits_for_approval,
)
from ..http.bodies import read_object
from ..http.context import RequestContext, current
from ..http.json_text import dumps
from ..media import MediaReader
from ..openai.common import DEFAULT_MODEL, extras_in
from ..routes import Route, Transport
from ..switches import MESSAGES_SWITCH, answer_limits
from . import operations
from .answers import Frames, head_of, message
from .request import MessageRequest, read_request

_SOURCE = "anthropic"
"""Names the entry point in keys of sessions that are made."""
_MODELS = ("claude-", "anthropic/claude-")
"""How the names of models begin that clients of this API have built in."""
_RESULT = re.compile(r"messages\[(\d+)\]\.tool_call_id")
"""The path of the domain for the id of a result, whose messages are others than the request's."""
_SESSION_HINT = "send the header x-opensoul-session-key, or the field `metadata.user_id`"


def transport(
    gateway: Gateway, approvals: Approvals, counts: TokenCounts, web: WebClient
) -> Transport:
    """The routes."""
    endpoint = _Endpoint(gateway, approvals, counts, MediaReader(web))
    route = partial(Route, limits=answer_limits, switch=MESSAGES_SWITCH)
    answer = "An agent's answer to a conversation, in the format of Anthropic's Messages API."
    counted = "Roughly how many tokens the model of an agent gets of a conversation."
    return Transport(
        "anthropic",
        (
            route(
                "/v1/messages",
                "POST",
                Scope.WRITE,
                endpoint.create,
                answer,
                operation=operations.create,
                errors=operations.FAILURES,
            ),
            route(
                "/v1/messages/count_tokens",
                "POST",
                Scope.WRITE,
                endpoint.count,
                counted,
                operation=operations.count,
                errors=(404,),
            ),
        ),
    )


class _Endpoint:
    """The views. The settings are read for each request, so that a change is in force at once."""

    def __init__(
        self, gateway: Gateway, approvals: Approvals, counts: TokenCounts, media: MediaReader
    ) -> None:
        self._gateway = gateway
        self._approvals = approvals
        self._counts = counts
        self._media = media

    async def create(self) -> Response:
        context, settings = current(), self._gateway.settings
        read, asked = await self._read(context, counts=False)
        extras = extras_in(context.headers, settings.chat)
        if not read.shows_thinking:
            extras = replace(extras, reasoning=False)
        # A question for an approval is not in the format that the client requires.
        waits = waits_for_approval(context.headers) or answer_format(read.params) is not None
        with _paths_of(read, asked):
            begun = await begin_run(self._gateway, self._approvals, context, asked, waits=waits)
            head = head_of(begun.run, read.model)
            context.log_fields |= {"stream": read.stream, "model": read.model}
            if not read.stream:
                answer = await collect(begun.events, context, begun.pause)
                return _json(message(head, answer, extras))
            frames = Frames(
                head, numbered=begun.continues, extras=extras, request_id=context.request_id
            )
            return await streamed(begun.feed(frames, context, settings), context)

    async def count(self) -> Response:
        context = current()
        read, asked = await self._read(context, counts=True)
        with _paths_of(read, asked):
            tokens = await self._counts.count(context.principal, asked)
        return _json(dumps({"input_tokens": tokens}))

    async def _read(
        self, context: RequestContext, *, counts: bool
    ) -> tuple[MessageRequest, RunRequest]:
        """The body, and what it asks for together with the headers. Raises InvalidRequest,
        Unsupported, GatewayBusy."""
        context.response_headers["request-id"] = context.request_id
        settings = self._gateway.settings
        read = await read_object(request.body, context, partial(read_request, counts=counts))
        messages = read.messages
        if read.media:
            messages = await self._media.read(messages, read.media, settings.chat, context.charge)
        if ignored := ignored_names(read.ignored, context.headers):
            context.response_headers["x-opensoul-ignored"] = ignored
        asked = run_request_of(
            context.headers,
            settings,
            messages=messages,
            model=_agent_model(read.model, self._gateway.directory(context.principal)),
            params=read.params,
            client_tools=read.tools,
            user=read.user,
            metadata_key=read.session_key,
            streamed=read.stream,
        )
        own = replace(asked, source=_SOURCE, thinking=read.thinking, session_hint=_SESSION_HINT)
        return read, own


@contextmanager
def _paths_of(read: MessageRequest, asked: RunRequest) -> Iterator[None]:
    """Names the request's own fields in errors of the domain, which has other names for them."""
    try:
        yield
    except InvalidRequest as error:
        param = error.param or ""
        if param == SCHEMA_PARAM:
            problem = f"`{read.schema_path}`: {error.message}"
            raise InvalidRequest(problem, param=read.schema_path) from None
        found = _RESULT.fullmatch(param)
        if found is None:
            raise
        call_id = asked.messages[int(found[1])].tool_call_id or ""
        path = read.results[call_id]
        raise InvalidRequest(
            f"`{path}`: no `tool_use` block before it has the id {call_id[:100]!r} and waits for "
            "a result.",
            param=path,
        ) from None


def _agent_model(model: str, directory: AgentDirectory) -> str:
    """The name that an agent is looked for by: the default agent answers in place of the models
    that clients have built in."""
    if model.strip().lower().startswith(_MODELS) and directory.get(model) is None:
        return DEFAULT_MODEL
    return model


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")
