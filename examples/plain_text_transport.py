"""A transport of your own: `POST /plain/<agent>` takes a text and answers with one.

It is served where the configuration names it: `gateway: { transports: ["plain"] }`.
"""

from __future__ import annotations

from quart import Blueprint, Response, request

from opensoul.adapters.transports.http import principal
from opensoul.domain.messages import Role, text_message
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.runs.events import Aborted, Failed, error_of
from opensoul.domain.runs.spec import RunRequest
from opensoul.domain.services.gateway import Gateway


def transport(gateway: Gateway) -> Blueprint:
    """Who comes here has been authenticated already, as on every route that is not declared open.

    A GatewayError that leaves a view becomes an answer with the right status.
    """
    blueprint = Blueprint("plain", __name__)

    @blueprint.post("/plain/<agent_id>")
    async def say(agent_id: str) -> Response:
        question = text_message(Role.USER, await request.get_data(as_text=True))
        asked = RunRequest(messages=(question,), agent_id=agent_id, source="plain")
        run = await gateway.submit(principal(), asked)
        answer: list[str] = []
        async with gateway.follow(principal(), run) as events:
            async for told in events:  # One event or several: all there are at the moment.
                answer += [event.text for event in told.events if isinstance(event, TextDelta)]
                if isinstance(told.ending, Failed | Aborted):
                    raise error_of(told.ending)
        return Response("".join(answer), content_type="text/plain; charset=utf-8")

    return blueprint
