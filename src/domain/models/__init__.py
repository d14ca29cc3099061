"""Models: a call and its events, the directory of models, cooldowns and proxies."""

from .calls import (
    Compat,
    FormatSupport,
    ModelEvent,
    ModelFinished,
    ModelRequest,
    ModelTarget,
    Price,
    Provider,
    ReasoningDelta,
    ReasoningSigned,
    Secret,
    StopReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from .cooldowns import Cooldowns
from .directory import ModelDirectory
from .embeddings import EmbeddingRequest, Embeddings
from .proxies import proxy_from_environment, read_proxy

__all__ = [
    "Compat",
    "Cooldowns",
    "EmbeddingRequest",
    "Embeddings",
    "FormatSupport",
    "ModelDirectory",
    "ModelEvent",
    "ModelFinished",
    "ModelRequest",
    "ModelTarget",
    "Price",
    "Provider",
    "ReasoningDelta",
    "ReasoningSigned",
    "Secret",
    "StopReason",
    "TextDelta",
    "ToolCallDelta",
    "Usage",
    "proxy_from_environment",
    "read_proxy",
]
