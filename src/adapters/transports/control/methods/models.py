"""`models.*`, `commands.list` and `chat.metadata`: the available models and commands."""

from __future__ import annotations

from typing import Any, Literal

from .....domain.chat_commands import COMMANDS, Argument, CommandInfo
from .....domain.models import ModelTarget
from ..connection import Call, Params
from ..protocol import Key, Name
from .service import ControlService, answers


class ModelsParams(Params):
    """`provider`: only its models. The other parameters have no effect: every view lists the
    configured models, and no provider is queried."""

    agent_id: Name | None = None
    session_key: Key | None = None
    provider: Name | None = None
    view: Literal["default", "configured", "provider-config", "all"] | None = None
    include_details: bool | None = None
    prepared_only: bool | None = None
    refresh: bool | None = None


class MetadataParams(Params):
    """An agent, or the agent of a session."""

    agent_id: Name | None = None
    session_key: Key | None = None
    auth_profile_id: Name | None = None


class AuthStatusParams(Params):
    """`refresh` has no effect: keys are configured, and no provider is queried."""

    agent_id: Name | None = None
    refresh: bool | None = None


class CommandsParams(Params):
    """The parameters have no effect: the commands are the same for every agent."""

    agent_id: Name | None = None
    provider: Name | None = None
    scope: Literal["text", "native", "both"] | None = None
    include_args: bool | None = None


class ModelMethods(ControlService):
    def metadata(self, call: Call, agent_id: str) -> dict[str, Any]:
        """The commands and models for a chat with an agent."""
        models = [_model(target) for target in self.gateway.models(call.principal)]
        return {
            "agentId": agent_id,
            "commands": self._commands_now(),
            "models": models,
        }

    @answers("chat.metadata", MetadataParams)
    async def _metadata(self, call: Call, params: MetadataParams) -> object:
        return self.metadata(call, self._agent(call, params.agent_id, params.session_key))

    @answers("models.authStatus", AuthStatusParams)
    async def _auth_status(self, call: Call, params: AuthStatusParams) -> object:
        """Every provider is `static`: keys do not expire, and there is no login."""
        self._agent(call, params.agent_id, None)
        targets = self.gateway.models(call.principal)
        providers = dict.fromkeys(target.provider.id for target in targets)
        return {
            "ts": int(self.clock() * 1_000),
            "providers": [
                {
                    "provider": provider,
                    "authProvider": provider,
                    "displayName": provider,
                    "status": "static",
                    "profiles": [],
                }
                for provider in providers
            ],
        }

    def _agent(self, call: Call, agent_id: str | None, session_key: str | None) -> str:
        """The id of the agent. Raises UnknownAgent, SessionKeyInvalid."""
        agents = self.gateway.settings.agents
        if session_key is not None:
            return self.gateway.session_key(
                session_key, agent_id=agent_id, principal=call.principal
            ).agent_id
        return agents.find(agent_id, param="agentId").id if agent_id else agents.default.id

    @answers("models.list", ModelsParams)
    async def _models(self, call: Call, params: ModelsParams) -> object:
        """Sorted by provider, then by name."""
        self._agent(call, params.agent_id, params.session_key)
        provider = params.provider
        return {
            "models": [
                _model(target)
                for target in self.gateway.models(call.principal)
                if provider is None or target.provider.id == provider
            ]
        }

    @answers("commands.list", CommandsParams)
    async def _commands(self, call: Call, params: CommandsParams) -> object:
        return {"commands": self._commands_now()}

    def _commands_now(self) -> list[dict[str, Any]]:
        """Empty while commands are switched off."""
        if not self.gateway.settings.text_commands:
            return []
        return [_command(command) for command in COMMANDS]


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


def _command(command: CommandInfo) -> dict[str, Any]:
    return {
        "name": command.name.value,
        "textAliases": [f"/{command.name}"],
        "description": command.description,
        "source": "native",
        "scope": "text",
        "acceptsArgs": command.argument is not Argument.NONE,
    }
