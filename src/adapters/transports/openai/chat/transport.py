"""`POST /v1/chat/completions` and `/v1/models`: the part of OpenAI's API that is served."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from quart import Response, request

from .....domain.access import Scope
from .....domain.ports import WebClient
from .....domain.runs import OnLeave, RunRecord, RunRequest, RunSpec, answer_format
from .....domain.services import Approvals, Events, Gateway
from .....domain.sessions import BindSettings
from ...http.bodies import read_object
from ...http.context import current
from ...http.json_text import dumps
from ...http.requests import Headers
from ...routes import Route, Transport
from ..common import (
    CHAT_SWITCH,
    SESSION_HINT,
    ApprovalPause,
    AskingEvents,
    Feed,
    agent_id_in,
    chat_limits,
    collect,
    continues_without_client,
    conversation_in,
    decided_run,
    decision_in,
    idempotency_key_in,
    ignored_names,
    model_in,
    model_list,
    model_object,
    session_key_in,
    start_run,
    start_submitted_run,
    streamed,
    waits_for_approval,
    without_decisions,
)
from ..media import MediaReader
from . import operations
from .answers import Frames, completion, head_of
from .extras import extras_in
from .request import ChatRequest, read_request


def transport(
    gateway: Gateway, approvals: Approvals, web: WebClient, *, started_at: float
) -> Transport:
    """The routes. `started_at`: Unix seconds, the creation time of every model."""
    endpoint = _Endpoint(gateway, approvals, MediaReader(web), int(started_at))
    route = partial(Route, limits=chat_limits, switch=CHAT_SWITCH)
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
            route(models, "GET", Scope.READ, endpoint.models, every, operation=operations.models),
            route(model, "GET", Scope.READ, endpoint.model, one, operation=operations.model),
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
        context = current()
        chat = await read_object(request.body, context, read_request)
        if chat.media:
            settings = self._gateway.settings.chat
            read = await self._media.read(chat.messages, chat.media, settings, context.charge)
            chat = replace(chat, messages=read)
        if ignored := ignored_names(chat.ignored, context.headers):
            context.response_headers["x-opensoul-ignored"] = ignored
        # A question for an approval is not in the format that the client requires.
        waits = waits_for_approval(context.headers) or answer_format(chat.params) is not None
        extras = extras_in(context.headers, self._gateway.settings.chat)
        key = idempotency_key_in(context.headers)
        continues = continues_without_client(context.headers)
        run: RunSpec | RunRecord
        events: Events
        last = 0
        if (decision := decision_in(chat.messages)) is not None:
            run, following = await decided_run(
                self._gateway, self._approvals, context, decision, chat.model
            )
            events, last = following, run.last_seq
        else:
            bind = self._gateway.settings.sessions.bind
            asked = _run_request(chat, context.headers, bind)
            if key is not None or continues:
                run, following, events = await start_submitted_run(
                    self._gateway, context, asked, key
                )
            else:
                run, following = await start_run(self._gateway, context, asked)
                events = following
        pause = None if waits else ApprovalPause(self._approvals, following, context)
        if pause is not None:
            events = await context.enter(AskingEvents(events, run, pause, last=last))
        context.log_fields["stream"] = chat.stream
        head = head_of(run, chat.model)
        if not chat.stream:
            answer = await collect(events, context, pause)
            return _json(completion(head, answer, legacy=chat.tools.legacy, extras=extras))
        frames = Frames(
            head,
            include_usage=chat.include_usage,
            legacy=chat.tools.legacy,
            numbered=run.on_leave is OnLeave.CONTINUE,
            extras=extras,
        )
        patience = self._gateway.settings.chat.keepalive
        feed = Feed(events, frames, context, patience=patience, pause=pause)
        return await streamed(feed, context)

    async def models(self) -> Response:
        directory = self._gateway.directory(current().principal)
        return _json(dumps(model_list(directory, self._created)))

    async def model(self, model_id: str) -> Response:
        directory = self._gateway.directory(current().principal)
        agent = directory.named_by_model(model_id) or directory.default
        return _json(dumps(model_object(model_id, agent, self._created)))


def _run_request(chat: ChatRequest, headers: Headers, bind: BindSettings) -> RunRequest:
    params = chat.params
    if chat.tools.legacy:
        params = {**params, "parallel_tool_calls": False}  # The older form has room for one call.
    return RunRequest(
        messages=without_decisions(chat.messages),
        model=chat.model,
        agent_id=agent_id_in(headers),
        session_key=session_key_in(headers),
        metadata_key=chat.session_key,
        conversation=conversation_in(headers, bind),
        user=chat.user,
        params=params,
        client_tools=chat.tools.client,
        commands=True,
        side_tasks=not chat.stream,
        chosen_model=model_in(headers),
        session_hint=SESSION_HINT,
    )


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")
