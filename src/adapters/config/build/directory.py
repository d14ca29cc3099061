"""All models of a configuration: which there are, their short names, which a session may choose."""

from __future__ import annotations

from collections.abc import Iterable

from ....domain.agents import Agent
from ....domain.models import ModelDirectory, ModelTarget
from .aliases import NoSuchAlias
from .models import Models, NoSuchModel


def build_directory(models: Models, agents: Iterable[Agent]) -> ModelDirectory:
    """The listed models of every provider, those of `agents.defaults.models`, and the agents' own.

    Where `agents.defaults.models` names any, these and the agents' own are the ones to choose
    from.
    """
    named = models.building.config.agents.defaults.models
    chosen = [target for name in named for target in _found(models, name)]
    own = [target for agent in agents for target in agent.models]
    return ModelDirectory(
        (*models.listed(), *chosen, *own),
        aliases=models.aliases.names,
        selectable=[target.ref for target in (*chosen, *own)] if named else (),
    )


def _found(models: Models, name: str) -> Iterable[ModelTarget]:
    """The model, where there is one: a listed name that no agent uses may lead nowhere."""
    try:
        target = models.target(name)
    except (NoSuchAlias, NoSuchModel):
        return ()
    return () if target is None else (target,)
