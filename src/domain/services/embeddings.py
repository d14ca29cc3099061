"""Embeddings: which model answers, the limits of keys, and the calls."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..access import Action, Principal, require
from ..errors import GatewayBusy, ModelFailed, Unavailable, UnknownAgent, UnknownModel
from ..models import EmbeddingRequest, ModelTarget, Usage
from ..ports import Embedder
from .gateway import Gateway
from .quotas import Quotas

logger = logging.getLogger(__name__)

_BATCH = 64
"""Texts of one call: providers limit them, and so are answers of a bounded size."""
_MOST_AT_ONCE = 64
"""Requests that are in work at the same time."""
_BUSY_SECONDS = 1.0
_BYTES_PER_TOKEN = 3
"""As in the estimates of messages."""
_SETTING = "gateway.http.endpoints.embeddings.models"


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of a request's texts, as in `Embeddings`, and the model that made them."""

    target: ModelTarget
    vectors: tuple[bytes, ...]
    usage: Usage


class EmbeddingService:
    """Has the configured models embed texts; `embedders`: their clients by the names of APIs."""

    def __init__(
        self, *, gateway: Gateway, embedders: Mapping[str, Embedder], quotas: Quotas | None = None
    ) -> None:
        self._gateway = gateway
        self._embedders = embedders
        self._quotas = quotas
        self._working = 0

    def models(self, principal: Principal) -> tuple[ModelTarget, ...]:
        """The configured models. Raises Forbidden."""
        require(principal, Action.SEE_MODELS)
        return self._gateway.settings.embedding_models

    def choose(self, principal: Principal, name: str) -> ModelTarget:
        """The model that a request names: by `provider/model`, by the provider's own name, or the
        first one by the name of an agent. Raises UnknownModel, Unavailable."""
        targets = self._gateway.settings.embedding_models
        if not targets:
            raise Unavailable(f"No embedding model is configured: name one in {_SETTING}.")
        name = name.strip()
        for target in targets:
            if name in (target.ref, target.model):
                return target
        try:
            self._gateway.directory(principal).named_by_model(name)
        except UnknownAgent:
            known = ", ".join(target.ref for target in targets)
            raise UnknownModel(
                f"The embedding model {name!r} does not exist or you do not have access to it. "
                f"Embedding models: {known}.",
                param="model",
            ) from None
        return targets[0]

    async def embed(
        self,
        principal: Principal,
        model: str,
        texts: tuple[str, ...],
        *,
        dimensions: int | None = None,
        input_type: str | None = None,
    ) -> Embedded:
        """The vectors of `texts`. What a failed request has used until then is counted, too.

        Raises Forbidden, UnknownModel, Unavailable, RateLimited, GatewayBusy, ModelFailed.
        """
        require(principal, Action.EMBED)
        target = self.choose(principal, model)
        embedder = self._embedders[target.provider.api]
        if self._working >= _MOST_AT_ONCE:
            raise GatewayBusy(
                f"{_MOST_AT_ONCE} requests for embeddings are in work, the most at the same time.",
                retry_after=_BUSY_SECONDS,
            )
        await self._gateway.check_request(principal)
        vectors: list[bytes] = []
        used = Usage(0, 0)
        self._working += 1
        try:
            for batch in _batches(texts):
                request = EmbeddingRequest(target, batch, dimensions, input_type)
                made = await embedder.embed(request)
                usage = made.usage or _estimate(batch)
                if self._quotas is not None and principal.key_id:
                    self._quotas.count(principal.key_id, usage, target.ref)
                vectors += made.vectors
                used += usage
        except ModelFailed as failure:
            fields = {"model": target.ref, "kind": failure.kind, "detail": failure.detail}
            logger.warning("a call for embeddings failed", extra=fields)
            raise
        finally:
            self._working -= 1
        return Embedded(target, tuple(vectors), used)


def _batches(texts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH))


def _estimate(texts: tuple[str, ...]) -> Usage:
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return Usage(-(-size // _BYTES_PER_TOKEN), 0, estimated=True)
