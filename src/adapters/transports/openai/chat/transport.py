"""`POST /v1/chat/completions` and `/v1/models`: the part of OpenAI's API that is served."""

from __future__ import annotations

from functools import partial

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
from ...http.json_text import dumps
from ...media import MediaReader
from ...routes import Route, Transport
from ...switches import CHAT_SWITCH, MODELS_SWITCH, answer_limits
from ..common import extras_in, model_list, model_object
from . import operations
from .answers import Frames, completion, head_of
from .request import read_request


def transport(
    gateway: Gateway, approvals: Approvals, web: WebClient, *, started_at: float
) -> Transport:
    """The routes. `started_at`: Unix seconds, the creation time of every model."""
    endpoint = _Endpoint(gateway, approvals, MediaReader(web), int(started_at))
    route = partial(Route, limits=answer_limits, switch=CHAT_SWITCH)
    listed = partial(route, switch=MODELS_SWITCH)
    chat, models, model = "/v1/chat/completions", "/v1/models", "/v1/models/<path:model_id>"
    answer = "An agent's answer to a conversation, whole or as a stream."
    every, one = "The agents, as models.", "The agent that a model's name stands for."
    return Transport(
        "openai_chat",
        (
            route(
                chat,
                "POST",
                Scope.WRITE,
                endpoint.create,
                answer,
                operation=operations.create,
                errors=(404, 409, 410, 501, 502, 504),
            ),
            listed(models, "GET", Scope.READ, endpoint.models, every, operation=operations.models),
            listed(model, "GET", Scope.READ, endpoint.model, one, operation=operations.model),
        ),
    )


class _Endpoint:
    """The views. The settings are read for each request, so that a change is in force at once."""

    def __init__(
        self, gateway: Gateway, approvals: Approvals, media: MediaReader, created: int
    ) -> None:
        self._gateway = gateway
        self._approvals = approvals
        self._media = media
        self._created = created

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
            side_tasks=not chat.stream,
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

    async def models(self) -> Response:
        directory = self._gateway.directory(current().principal)
        return _json(dumps(model_list(directory, self._created)))

    async def model(self, model_id: str) -> Response:
        directory = self._gateway.directory(current().principal)
        agent = directory.named_by_model(model_id) or directory.default
        return _json(dumps(model_object(model_id, agent, self._created)))


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")
