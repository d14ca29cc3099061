"""One call of an embedding model: the texts and their vectors."""

from __future__ import annotations

from dataclasses import dataclass

from .calls import ModelTarget, Usage


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A call. `dimensions` and `input_type` (such as `query` or `passage`): None for the model's
    own."""

    target: ModelTarget
    texts: tuple[str, ...]
    dimensions: int | None = None
    input_type: str | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """`vectors`: one for each text, in their order, as 32-bit floats of little-endian bytes.
    `usage`: None if the model reported none."""

    vectors: tuple[bytes, ...]
    usage: Usage | None = None
