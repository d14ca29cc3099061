"""`GET /v1/models`: the agents, for the clients of all endpoints, and the embedding models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quart import Response, request

from .....domain.access import Scope
from .....domain.services import Gateway
from ...http.context import current
from ...http.fields import Ignored
from ...http.json_text import dumps
from ...routes import Route, Transport
from ...switches import MODELS_SWITCH, answer_limits
from . import anthropic, operations
from .objects import agent_object, embedding_object, named_agents


def transport(gateway: Gateway, *, started_at: float) -> Transport:
    """The routes. `started_at`: Unix seconds, the creation time of every model."""
    endpoint = _Endpoint(gateway, int(started_at))
    every, one = "The agents, as models.", "The agent that a model's name stands for."
    listed = Route(
        "/v1/models",
        "GET",
        Scope.READ,
        endpoint.models,
        every,
        limits=answer_limits,
        switch=MODELS_SWITCH,
        operation=operations.models,
    )
    found = Route(
        "/v1/models/<path:model_id>",
        "GET",
        Scope.READ,
        endpoint.model,
        one,
        limits=answer_limits,
        switch=MODELS_SWITCH,
        operation=operations.model,
    )
    return Transport("openai_models", (listed, found))


@dataclass(frozen=True, slots=True)
class _Endpoint:
    gateway: Gateway
    created: int

    async def models(self) -> Response:
        context, query = current(), request.args
        directory = self.gateway.directory(context.principal)
        limit = anthropic.limit_in(query)
        if _for_anthropic():
            return _json(anthropic.page(directory, self.created, query, limit))
        ignored = Ignored()
        ignored.note(query, frozenset())
        if ignored.header:
            context.response_headers["x-opensoul-ignored"] = ignored.header
        data = [agent_object(name, agent, self.created) for name, agent in named_agents(directory)]
        settings = self.gateway.settings
        if settings.endpoints.embeddings:
            data += [embedding_object(one, self.created) for one in settings.embedding_models]
        return _json({"object": "list", "data": data})

    async def model(self, model_id: str) -> Response:
        settings = self.gateway.settings
        directory = self.gateway.directory(current().principal)
        for_anthropic = _for_anthropic()
        if settings.endpoints.embeddings and not for_anthropic:
            for target in settings.embedding_models:
                if target.ref == model_id:
                    return _json(embedding_object(target, self.created))
        agent = directory.named_by_model(model_id) or directory.default
        shown = anthropic.agent_info if for_anthropic else agent_object
        return _json(shown(model_id, agent, self.created))


def _for_anthropic() -> bool:
    """Whether the answer is in that format, whose clients read the id of the request."""
    context = current()
    if b"anthropic-version" not in context.headers:
        return False
    context.response_headers["request-id"] = context.request_id
    return True


def _json(value: Mapping[str, object]) -> Response:
    return Response(dumps(value), content_type="application/json")
