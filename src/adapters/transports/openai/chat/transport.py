"""`POST /v1/chat/completions`: an agent's answer to a conversation."""

from __future__ import annotations

from quart import Response, request

from .....domain.access import Scope
from .....domain.ports import WebClient
from .....domain.runs import answer_format
from .....domain.services import Approvals, Gateway
from ...answering import (
    begin_run,
    collect,
    ignored_names,
    run_request_of,
    streamed,
    waits_for_approval,
)
from ...http.bodies import read_object
from ...http.context import current
from ...media import MediaReader
from ...routes import Route, Transport
from ...switches import CHAT_SWITCH, answer_limits
from ..common import extras_in
from . import operations
from .answers import Frames, completion, head_of
from .request import read_request


def transport(gateway: Gateway, approvals: Approvals, web: WebClient) -> Transport:
    """The route."""
    route = Route(
        "/v1/chat/completions",
        "POST",
        Scope.WRITE,
        _Endpoint(gateway, approvals, MediaReader(web)).create,
        "An agent's answer to a conversation, whole or as a stream.",
        limits=answer_limits,
        switch=CHAT_SWITCH,
        operation=operations.create,
        errors=(404, 409, 410, 501, 502, 504),
    )
    return Transport("openai_chat", (route,))


class _Endpoint:
    """The view. The settings are read for each request, so that a change is in force at once."""

    def __init__(self, gateway: Gateway, approvals: Approvals, media: MediaReader) -> None:
        self._gateway = gateway
        self._approvals = approvals
        self._media = media

    async def create(self) -> Response:
        context, settings = current(), self._gateway.settings
        chat = await read_object(request.body, context, read_request)
        messages = chat.messages
        if chat.media:
            messages = await self._media.read(messages, chat.media, settings.chat, context.charge)
        if ignored := ignored_names(chat.ignored, context.headers):
            context.response_headers["x-opensoul-ignored"] = ignored
        extras = extras_in(context.headers, settings.chat)
        legacy, params = chat.tools.legacy, chat.params
        if legacy:  # The older form has room for one call.
            params = {**params, "parallel_tool_calls": False}
        asked = run_request_of(
            context.headers,
            settings,
            messages=messages,
            model=chat.model,
            params=params,
            client_tools=chat.tools.client,
            user=chat.user,
            metadata_key=chat.session_key,
            streamed=chat.stream,
        )
        # A question for an approval is not in the format that the client requires.
        waits = waits_for_approval(context.headers) or answer_format(params) is not None
        begun = await begin_run(self._gateway, self._approvals, context, asked, waits=waits)
        head = head_of(begun.run, chat.model)
        context.log_fields["stream"] = chat.stream
        if not chat.stream:
            answer = await collect(begun.events, context, begun.pause)
            return _json(completion(head, answer, legacy=legacy, extras=extras))
        frames = Frames(
            head,
            include_usage=chat.include_usage,
            legacy=legacy,
            numbered=begun.continues,
            extras=extras,
        )
        return await streamed(begun.feed(frames, context, settings), context)


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")
