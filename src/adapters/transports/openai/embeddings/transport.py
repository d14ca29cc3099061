"""`POST /v1/embeddings`: the vectors of texts, by the configured embedding models."""

from __future__ import annotations

from dataclasses import dataclass

from quart import Response, request

from .....domain.access import Scope
from .....domain.services import EmbeddingService
from ...answering import ignored_names, model_in
from ...http.bodies import read_object
from ...http.context import current
from ...routes import Route, Transport
from ...switches import EMBEDDINGS_SWITCH, answer_limits
from . import operations
from .answers import pieces
from .request import read_request

_WITHOUT_EFFECT = frozenset(
    {"agent-id", "agent", "session-key", "approval", "on-disconnect", "reasoning", "events"}
)
"""Headers of requests that a run answers."""


def transport(embeddings: EmbeddingService) -> Transport:
    """The route."""
    route = Route(
        "/v1/embeddings",
        "POST",
        Scope.WRITE,
        _Endpoint(embeddings).create,
        "The embeddings of one or several texts.",
        limits=answer_limits,
        switch=EMBEDDINGS_SWITCH,
        operation=operations.create,
        errors=(404, 501, 502, 504),
    )
    return Transport("openai_embeddings", (route,))


@dataclass(frozen=True, slots=True)
class _Endpoint:
    embeddings: EmbeddingService

    async def create(self) -> Response:
        context = current()
        asked = await read_object(request.body, context, read_request)
        ignored = ignored_names(asked.ignored, context.headers, without_effect=_WITHOUT_EFFECT)
        if ignored:
            context.response_headers["x-opensoul-ignored"] = ignored
        context.log_fields["inputs"] = len(asked.texts)
        context.adopt_task()
        embedded = await self.embeddings.embed(
            context.principal,
            model_in(context.headers) or asked.model,
            asked.texts,
            dimensions=asked.dimensions,
            input_type=asked.input_type,
        )
        context.log_fields |= {"model": embedded.target.ref, "tokens": embedded.usage.input}
        context.charge.raise_to(sum(map(len, embedded.vectors)))
        body = pieces(embedded, base64=asked.base64)
        return Response(body, content_type="application/json")
