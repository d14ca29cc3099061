"""The clients of models, and the router that chooses among them."""

from __future__ import annotations

from collections.abc import Mapping

from ...adapters.config import Locations
from ...adapters.providers.local.client import LocalModels
from ...adapters.providers.local.embeddings import LocalEmbeddings
from ...adapters.providers.openai import OpenAIEmbeddings
from ...domain.execution import ModelRouter
from ...domain.models import Cooldowns
from ...domain.ports import Clock, Embedder, ModelClient
from ...domain.services import EmbeddingService, Gateway, Quotas
from ..lifecycle import Prepare


def cooldowns(monotonic: Clock) -> Cooldowns:
    return Cooldowns(monotonic)


def local(openai: ModelClient, locations: Locations) -> LocalModels:
    return LocalModels(inner=openai, models_dir=locations.state_dir / "models")


def models(
    openai: ModelClient, anthropic: ModelClient, local: LocalModels, scripted: ModelClient
) -> Mapping[str, ModelClient]:
    """The clients by the names of their APIs; a new one is one line here."""
    return {
        "openai-completions": openai,
        "anthropic-messages": anthropic,
        "local": local,
        "scripted": scripted,
    }


def embedders() -> Mapping[str, Embedder]:
    """The clients of embedding models by the names of their APIs."""
    return {"openai-completions": OpenAIEmbeddings(), "local": LocalEmbeddings()}


def embeddings(
    gateway: Gateway, embedders: Mapping[str, Embedder], quotas: Quotas
) -> EmbeddingService:
    return EmbeddingService(gateway=gateway, embedders=embedders, quotas=quotas)


def prepare(local: LocalModels) -> Mapping[str, Prepare]:
    """How models are made ready before their first request, by the names of their APIs."""
    return {"local": local.prepare}


def router(models: Mapping[str, ModelClient], cooldowns: Cooldowns) -> ModelRouter:
    return ModelRouter(clients=models, cooldowns=cooldowns)
