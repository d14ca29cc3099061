"""`POST /v1/completions`: an agent's answer to one prompt, for clients of OpenAI's older format."""

from __future__ import annotations

from dataclasses import dataclass

from quart import Response, request

from .....domain.access import Scope
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
from ...routes import Route, Transport
from ...switches import COMPLETIONS_SWITCH, answer_limits
from . import operations
from .answers import Frames, completion, head_of
from .request import read_request

_WITHOUT_EFFECT = frozenset({"reasoning", "events"})
"""Headers for what this format has no place for."""


def transport(gateway: Gateway, approvals: Approvals) -> Transport:
    """The route."""
    route = Route(
        "/v1/completions",
        "POST",
        Scope.WRITE,
        _Endpoint(gateway, approvals).create,
        "An agent's answer to a prompt, whole or as a stream.",
        limits=answer_limits,
        switch=COMPLETIONS_SWITCH,
        operation=operations.create,
        errors=(404, 409, 410, 501, 502, 504),
    )
    return Transport("openai_completions", (route,))


@dataclass(frozen=True, slots=True)
class _Endpoint:
    gateway: Gateway
    approvals: Approvals

    async def create(self) -> Response:
        context, settings = current(), self.gateway.settings
        asked = await read_object(request.body, context, read_request)
        ignored = ignored_names(asked.ignored, context.headers, without_effect=_WITHOUT_EFFECT)
        if ignored:
            context.response_headers["x-opensoul-ignored"] = ignored
        run_request = run_request_of(
            context.headers,
            settings,
            messages=asked.messages,
            model=asked.model,
            params=asked.params,
            user=asked.user,
            streamed=asked.stream,
        )
        waits = waits_for_approval(context.headers)
        begun = await begin_run(self.gateway, self.approvals, context, run_request, waits=waits)
        head, echo = head_of(begun.run, asked.model), asked.prompt if asked.echo else ""
        context.log_fields["stream"] = asked.stream
        if not asked.stream:
            answer = await collect(begun.events, context, begun.pause)
            body = completion(head, answer, echo=echo)
            return Response(body, content_type="application/json")
        frames = Frames(
            head,
            run_id=begun.run.id,
            include_usage=asked.include_usage,
            echo=echo,
            numbered=begun.continues,
        )
        return await streamed(begun.feed(frames, context, settings), context)
