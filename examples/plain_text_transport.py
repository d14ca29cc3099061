"""A transport of your own: `POST /plain/<agent>` takes a text and answers with one.

It is served where the configuration names it: `gateway: { transports: ["plain"] }`.
"""

from __future__ import annotations

from quart import Response, request

from opensoul.api import (
    Aborted,
    Failed,
    Gateway,
    Limits,
    Role,
    Route,
    RunRequest,
    Scope,
    TextDelta,
    Transport,
    error_of,
    principal,
    text_message,
)


def transport(gateway: Gateway) -> Transport:
    """A GatewayError that leaves a view becomes an answer with the right status."""

    async def say(agent_id: str) -> Response:
        question = text_message(Role.USER, await request.get_data(as_text=True))
        # `commands`: a person writes the text, so that it may be a command such as /help.
        run_request = RunRequest((question,), agent_id=agent_id, source="plain", commands=True)
        run = await gateway.submit(principal(), run_request)
        answer: list[str] = []
        async with gateway.follow(principal(), run) as batches:
            async for batch in batches:
                answer += [event.text for event in batch.events if isinstance(event, TextDelta)]
                if isinstance(batch.ending, Failed | Aborted):
                    raise error_of(batch.ending)
        return Response("".join(answer), content_type="text/plain; charset=utf-8")

    route = Route(
        path="/plain/<agent_id>",
        method="POST",
        scope=Scope.WRITE,  # A client without it is refused before `say` is called.
        view=say,
        summary="An agent's answer to one text.",
        limits=Limits(body_bytes=64 * 1024, body_timeout=10),
    )
    return Transport("plain", routes=(route,))
