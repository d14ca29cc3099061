"""`POST /v1/responses`: an agent's answer in the format of OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quart import Response, request

from .....domain.access import Scope
from .....domain.errors import InvalidRequest, ModelFailed, Unsupported
from .....domain.messages import Message
from .....domain.ports import WebClient
from .....domain.runs import SCHEMA_PARAM, answer_format
from .....domain.services import Approvals, Gateway
from ...answering import BegunRun, begin_run, collect, ignored_names, streamed, waits_for_approval
from ...http.bodies import read_object
from ...http.context import RequestContext, current
from ...http.json_text import dumps
from ...media import MediaReader
from ...routes import Route, Transport
from ...switches import RESPONSES_SWITCH, answer_limits
from ..common import extras_in
from . import operations
from .frames import Frames
from .objects import Head, answer_object, head_of
from .request import ResponsesRequest, read_request

PATH = "/v1/responses"
_PARAMS: Mapping[str, str] = {
    "max_completion_tokens": "max_output_tokens",
    "messages": "input",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    SCHEMA_PARAM: "text.format.schema",
}
"""What this API calls the fields that errors of the domain and of providers name."""


def transport(
    gateway: Gateway, approvals: Approvals, web: WebClient, *, clock: Callable[[], float]
) -> Transport:
    """The route. `clock`: Unix seconds."""
    endpoint = _Endpoint(gateway, approvals, MediaReader(web), clock)
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
        ),
    )


class _Endpoint:
    """The view. The settings are read for each request, so that a change is in force at once."""

    def __init__(
        self,
        gateway: Gateway,
        approvals: Approvals,
        media: MediaReader,
        clock: Callable[[], float],
    ) -> None:
        self._gateway = gateway
        self._approvals = approvals
        self._media = media
        self._clock = clock

    async def create(self) -> Response:
        context = current()
        asked = await read_object(request.body, context, read_request)
        _refuse_state(asked)
        try:
            begun = await self._begin(context, asked)
            return await self._answer(context, asked, begun, head_of(begun.run, asked.echo))
        except (InvalidRequest, ModelFailed) as error:
            error.param = _PARAMS.get(error.param or "", error.param)
            raise

    async def _begin(self, context: RequestContext, asked: ResponsesRequest) -> BegunRun:
        settings = self._gateway.settings
        messages: tuple[Message, ...] = asked.messages
        if asked.media:
            messages = await self._media.read(messages, asked.media, settings.chat, context.charge)
        if ignored := ignored_names(asked.ignored, context.headers):
            context.response_headers["x-opensoul-ignored"] = ignored
        run_request = asked.run_request(context.headers, settings, messages)
        # A question for an approval is not in the format that the client requires.
        waits = waits_for_approval(context.headers) or answer_format(asked.params) is not None
        return await begin_run(self._gateway, self._approvals, context, run_request, waits=waits)

    async def _answer(
        self, context: RequestContext, asked: ResponsesRequest, begun: BegunRun, head: Head
    ) -> Response:
        settings = self._gateway.settings
        extras = extras_in(context.headers, settings.chat, asks_reasoning=asked.summary)
        context.log_fields["stream"] = asked.stream
        if asked.stream:
            frames = Frames(head, extras=extras, clock=self._clock)
            return await streamed(begun.feed(frames, context, settings), context)
        answer = await collect(begun.events, context, begun.pause)
        whole = answer_object(
            head, answer, reasoning=extras.reasoning, completed_at=int(self._clock())
        )
        return Response(dumps(whole), content_type="application/json")


def _refuse_state(asked: ResponsesRequest) -> None:
    """Refuse what needs stored responses. Raises Unsupported."""
    for name, value in (
        ("previous_response_id", asked.previous_response_id),
        ("conversation", asked.conversation),
        ("background", asked.background or None),
    ):
        if value is not None:
            raise Unsupported(f"`{name}` is not supported. Leave it out.", param=name)
    for item_id, path in asked.references.items():
        message = f"`{path}`: the item {item_id[:100]!r} is not stored here. Send the item."
        raise InvalidRequest(message, param=path)
