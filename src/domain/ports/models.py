"""Clients of model providers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from ..models import EmbeddingRequest, Embeddings, ModelEvent, ModelRequest


class ModelClient(Protocol):
    """Speaks to models of one wire API."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        """Call the model; the last event is ModelFinished, unless ModelFailed is raised.

        Yields non-empty batches: all events that are there, without waiting for more.

        Nothing is sent before the first event is asked for. Closing the stream, or cancelling
        who reads it, ends the call and closes its connection to the provider at once. What the
        provider has answered is never asked for again. Raises ModelFailed, and nothing else, for
        whatever goes wrong out there: a stream that ends early is BAD_RESPONSE, silence past the
        provider's limits is TIMEOUT.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; the client is not used afterwards. Safe to call twice."""
        ...


class Embedder(Protocol):
    """Calls embedding models of one API."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The vectors of the texts. Cancelling the call ends it and its connection at once. Raises
        ModelFailed, and nothing else, for whatever goes wrong out there."""
        ...

    async def close(self) -> None:
        """Let go of everything; the embedder is not used afterwards. Safe to call twice."""
        ...
