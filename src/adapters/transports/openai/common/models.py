"""The agents as OpenAI's model objects: the values of `model`."""

from __future__ import annotations

from .....domain.agents import Agent, AgentDirectory

DEFAULT_MODEL = "opensoul"
"""The name of the default agent, and the default of `model`."""
_SCRIPTED = "scripted"


def model_list(directory: AgentDirectory, created: int) -> dict[str, object]:
    """The list object: the default agent under its two names, then every agent under its own."""
    default = directory.default
    named = [(DEFAULT_MODEL, default), (f"{DEFAULT_MODEL}/default", default)]
    named += [(f"{DEFAULT_MODEL}/{agent.id}", agent) for agent in directory]
    return {
        "object": "list",
        "data": [model_object(name, agent, created) for name, agent in named],
    }


def model_object(name: str, agent: Agent, created: int) -> dict[str, object]:
    """One agent as a model. `created`: Unix seconds. An agent that only pretends says so."""
    fields: dict[str, object] = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "opensoul",
        "opensoul": {"agent": agent.id, "name": agent.name},
    }
    if agent.models and all(target.provider.api == _SCRIPTED for target in agent.models):
        fields["description"] = "Scripted demonstration: prepared answers, no language model."
        fields["opensoul"] = {"agent": agent.id, "name": agent.name, "scripted": True}
    return fields
