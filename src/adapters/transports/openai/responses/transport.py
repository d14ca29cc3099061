"""`POST /v1/responses`: an agent's answer in the format of OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quart import Response, request

from .....domain.access import Scope
from .....domain.errors import InvalidRequest, ModelFailed
from .....domain.messages import Message
from .....domain.ports import WebClient
from .....domain.responses import StoredResponse
from .....domain.runs import answer_format
from .....domain.services import Approvals, Gateway, Responses
from ...answering import BegunRun, begin_run, collect, ignored_names, streamed, waits_for_approval
from ...http.bodies import read_object
from ...http.context import RequestContext, current
from ...http.json_text import dumps
from ...media import MediaReader
from ...routes import Route, Transport
from ...switches import RESPONSES_SWITCH, answer_limits
from ..common import Extras, extras_in
from . import compact, operations, stored
from .frames import Frames
from .objects import answer_object
from .request import ResponsesRequest, param_of, read_request
from .socket import Upgrades
from .state import Prepared, ResponseState, extras_of, frames_of, head_of_stored

PATH = "/v1/responses"


def transport(
    gateway: Gateway,
    approvals: Approvals,
    responses: Responses,
    web: WebClient,
    *,
    clock: Callable[[], float],
) -> Transport:
    """The routes. `clock`: Unix seconds."""
    state = ResponseState(gateway, responses, clock)
    endpoint = _Endpoint(state, approvals, MediaReader(web))
    upgrades = Upgrades(gateway, endpoint)
    return Transport(
        "openai_responses",
        (
            Route(
                PATH,
                "POST",
                Scope.WRITE,
                endpoint.create,
                "An agent's answer as a response object, whole or as a stream.",
                limits=answer_limits,
                switch=RESPONSES_SWITCH,
                operation=operations.create,
                errors=(404, 409, 410, 501, 502, 504),
            ),
            compact.route(state),
            *stored.routes(state),
        ),
        stop=upgrades.stop,
        upgrade=upgrades.enter,
        upgrade_path=PATH,
    )


class _Endpoint:
    """The view. The settings are read for each request, so that a change is in force at once."""

    def __init__(self, state: ResponseState, approvals: Approvals, media: MediaReader) -> None:
        self._state = state
        self._gateway = state.gateway
        self._approvals = approvals
        self._media = media

    async def create(self) -> Response:
        context = current()
        asked = await read_object(request.body, context, read_request)
        try:
            return await self._create(context, asked)
        except (InvalidRequest, ModelFailed) as error:
            error.param = param_of(error, asked.places)
            raise

    async def _create(self, context: RequestContext, asked: ResponsesRequest) -> Response:
        begun, response = await self.begin(context, asked)
        context.log_fields["stream"] = asked.stream
        if asked.stream:
            settings = self._gateway.settings
            frames = self.frames(response)
            return await streamed(begun.feed(frames, context, settings), context)
        if asked.background:
            return _json(await self._state.object_of(context, response))
        answer = await collect(begun.events, context, begun.pause)
        whole = answer_object(
            head_of_stored(response),
            answer,
            reasoning=extras_of(response).reasoning,
            completed_at=int(self._state.clock()),
        )
        return _json(whole)

    async def begin(
        self,
        context: RequestContext,
        asked: ResponsesRequest,
        local: Mapping[str, StoredResponse] | None = None,
    ) -> tuple[BegunRun, StoredResponse]:
        """The run of a request, and its response, which is stored unless the client asked not to.
        `local`: as in `ResponseState.prepared`."""
        settings = self._gateway.settings
        extras = extras_in(context.headers, settings.chat, asks_reasoning=asked.summary)
        async with self._state.prepared(context, asked, local) as prepared:
            begun, response = await self._begin(context, prepared, extras)
        return begun, response

    def frames(self, response: StoredResponse) -> Frames:
        """What writes the events of a response."""
        return frames_of(response, clock=self._state.clock)

    async def _begin(
        self, context: RequestContext, prepared: Prepared, extras: Extras
    ) -> tuple[BegunRun, StoredResponse]:
        settings, asked = self._gateway.settings, prepared.asked
        messages: tuple[Message, ...] = asked.messages
        if asked.media:
            messages = await self._media.read(messages, asked.media, settings.chat, context.charge)
        if ignored := ignored_names(asked.ignored, context.headers):
            context.response_headers["x-opensoul-ignored"] = ignored
        run_request = prepared.run_request(asked.run_request(context.headers, settings, messages))
        # A question for an approval is not in the format that the client requires, and nobody reads
        # that of a response in the background.
        waits = (
            waits_for_approval(context.headers)
            or answer_format(asked.params) is not None
            or asked.background
        )
        begun = await begin_run(self._gateway, self._approvals, context, run_request, waits=waits)
        kept = await self._state.keep(context, prepared, run_request, begun.run, extras)
        return begun, kept


def _json(body: Mapping[str, object]) -> Response:
    return Response(dumps(body), content_type="application/json")
