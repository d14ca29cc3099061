"""The agents and the embedding models as model objects: the values of `model`.

The fields beside OpenAI's are those that clients read: `name` (Open WebUI), and OpenRouter's
`context_length`, `architecture` and `supported_parameters`.
"""

from __future__ import annotations

from collections.abc import Iterator

from .....domain.agents import Agent, AgentDirectory
from .....domain.models import ModelTarget
from ..common import DEFAULT_MODEL

_SCRIPTED = "scripted"
_NATIVE = "native"
"""The runner that calls the agent's models; nothing is known of others."""
_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
_FORMATS = ("response_format", "structured_outputs")
_SAMPLING = ("max_tokens", "temperature", "top_p", "stop")
_MORE_SAMPLING = ("frequency_penalty", "presence_penalty", "seed", "logit_bias")
_PARAMETERS = {
    "openai-completions": (*_SAMPLING, *_MORE_SAMPLING, *_TOOLS, *_FORMATS),
    "anthropic-messages": (*_SAMPLING, *_TOOLS, *_FORMATS),
    "local": (*_SAMPLING, *_MORE_SAMPLING, *_FORMATS),
}
"""Parameters of chat completions that have an effect, by the API of the agent's model."""


def named_agents(directory: AgentDirectory) -> Iterator[tuple[str, Agent]]:
    """The default agent under its two names, then every agent under its own."""
    default = directory.default
    yield DEFAULT_MODEL, default
    yield f"{DEFAULT_MODEL}/default", default
    yield from ((f"{DEFAULT_MODEL}/{agent.id}", agent) for agent in directory)


def display_name(name: str, agent: Agent) -> str:
    """What people read. The names of the default agent are told apart."""
    is_own = name == f"{DEFAULT_MODEL}/{agent.id}"
    return agent.name if is_own else f"{agent.name} ({name})"


def agent_object(name: str, agent: Agent, created: int) -> dict[str, object]:
    """One agent as a model. `created`: Unix seconds. An agent that only pretends says so."""
    own: dict[str, object] = {"agent": agent.id, "name": agent.name}
    fields: dict[str, object] = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "opensoul",
        "name": display_name(name, agent),
    }
    if agent.models and all(target.provider.api == _SCRIPTED for target in agent.models):
        fields["description"] = "Scripted demonstration: prepared answers, no language model."
        own["scripted"] = True
    elif agent.models and agent.runner == _NATIVE:
        fields |= _capabilities(agent)
    return {**fields, "opensoul": own}


def _capabilities(agent: Agent) -> dict[str, object]:
    """What the agent's models can do. A picture reaches those that take pictures; files reach every
    model, as text."""
    first = agent.models[0]
    pictures = ["image"] if any("image" in target.inputs for target in agent.models) else []
    parameters = list(_PARAMETERS.get(first.provider.api, ()))
    if first.reasoning:
        parameters.append("reasoning_effort")
    return {
        "context_length": first.context_window,
        "architecture": {
            "input_modalities": ["text", *pictures, "file"],
            "output_modalities": ["text"],
        },
        "supported_parameters": parameters,
    }


def embedding_object(target: ModelTarget, created: int) -> dict[str, object]:
    """An embedding model, which answers at /v1/embeddings alone."""
    return {
        "id": target.ref,
        "object": "model",
        "created": created,
        "owned_by": target.provider.id,
        "name": target.ref,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["embeddings"]},
        "opensoul": {"embeddings": True},
    }
