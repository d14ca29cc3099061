"""`models.list` and `commands.list`: what there is to choose from, and to type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .....domain.gateway import Gateway
from .....domain.model_calls import ModelTarget
from ..calls import Call, Handler, Handlers, Params
from ..frames import Name

_COMMANDS = (
    ("new", "Start the session over; the old transcript is kept."),
    ("reset", "The same as /new."),
    ("stop", "Stop every run of the session."),
    ("abort", "The same as /stop."),
)


class ModelsParams(Params):
    """`provider`: its models only. The other ones change nothing: a model is listed as it is
    configured, in every view, and nobody out there is asked."""

    agent_id: Name | None = None
    provider: Name | None = None
    view: Literal["default", "configured", "provider-config", "all"] | None = None
    include_details: bool | None = None
    prepared_only: bool | None = None
    refresh: bool | None = None


class CommandsParams(Params):
    """The commands are the same for every agent, and take no arguments."""

    agent_id: Name | None = None
    provider: Name | None = None
    scope: Literal["text", "native", "both"] | None = None
    include_args: bool | None = None


@dataclass(frozen=True, slots=True)
class _Models:
    gateway: Gateway

    async def models(self, call: Call, params: ModelsParams) -> object:
        """By provider, then by name."""
        if params.agent_id is not None:
            self.gateway.settings.agents.find(params.agent_id, param="agentId")
        provider = params.provider
        return {
            "models": [
                _model(target)
                for target in self.gateway.models(call.principal)
                if provider is None or target.provider.id == provider
            ]
        }

    async def commands(self, call: Call, params: CommandsParams) -> object:
        return {"commands": [_command(name, told) for name, told in _COMMANDS]}


def handlers(gateway: Gateway) -> Handlers:
    models = _Models(gateway)
    return {
        "models.list": Handler(ModelsParams, models.models),
        "commands.list": Handler(CommandsParams, models.commands),
    }


def _model(target: ModelTarget) -> dict[str, Any]:
    return {
        "id": target.model,
        "name": target.model,
        "provider": target.provider.id,
        "contextWindow": target.context_window,
        "maxTokens": target.max_tokens,
        "reasoning": target.reasoning,
        "input": list(target.inputs),
    }


def _command(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "textAliases": [f"/{name}"],
        "description": description,
        "source": "native",
        "scope": "text",
        "acceptsArgs": False,
    }
