"""The clients of models, and the router that chooses among them."""

from __future__ import annotations

from collections.abc import Mapping

from ...adapters.config import Locations
from ...adapters.providers.local.client import LocalModels
from ...domain.execution import ModelRouter
from ...domain.models import Cooldowns
from ...domain.ports import Clock, ModelClient
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


def prepare(local: LocalModels) -> Mapping[str, Prepare]:
    """How models are made ready before their first request, by the names of their APIs."""
    return {"local": local.prepare}


def router(models: Mapping[str, ModelClient], cooldowns: Cooldowns) -> ModelRouter:
    return ModelRouter(clients=models, cooldowns=cooldowns)
