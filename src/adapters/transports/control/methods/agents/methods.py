"""`agents.*`: who there is, and changing that in the configuration file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from ......domain.access import Principal, Scope
from ......domain.agents import Agent
from ......domain.errors import GatewayError
from ......domain.ports.configuration import ConfigFile, ConfigSnapshot, MakePatch
from ......domain.ports.workspaces import Workspaces
from ......domain.services import Gateway
from ......domain.sessions import MAIN
from ...connection import Call, Handler, Handlers, NoParams, Params
from ...protocol import Name, SessionKeyText, Text
from ..config import HELD_BACK, reload_mode, taken_over
from .entries import Removal, added, agent_id_of, changed, has_entries
from .files import AgentFiles


class IdentityParams(Params):
    """An agent, or the one of a session; the default one without either."""

    agent_id: Name | None = None
    session_key: SessionKeyText | None = None


class CreateParams(Params):
    """The id is made from the name. Without a workspace: `workspace-<id>` beside the state."""

    name: Name
    workspace: Text | None = None
    model: Name | None = None
    emoji: Name | None = None
    avatar: Text | None = None


class UpdateParams(Params):
    """What is left out stays."""

    agent_id: Name
    name: Name | None = None
    workspace: Text | None = None
    model: Name | None = None
    emoji: Name | None = None
    avatar: Text | None = None


class DeleteParams(Params):
    """`delete_files`: move the agent's own workspace aside as well. Nothing is ever deleted."""

    agent_id: Name
    delete_files: bool = False


def handlers(gateway: Gateway, config: ConfigFile, workspaces: Workspaces) -> Handlers:
    methods = _Agents(gateway, config, workspaces)
    return {
        "agent.identity.get": Handler(IdentityParams, methods.identity),
        "agents.list": Handler(NoParams, methods.list),
        "agents.create": Handler(CreateParams, methods.create),
        "agents.update": Handler(UpdateParams, methods.update),
        "agents.delete": Handler(DeleteParams, methods.delete),
        **AgentFiles(gateway, workspaces).handlers(),
    }


@dataclass(frozen=True, slots=True)
class _Agents:
    gateway: Gateway
    config: ConfigFile
    workspaces: Workspaces

    async def identity(self, call: Call, params: IdentityParams) -> object:
        agents = self.gateway.settings.agents
        if params.session_key is not None:
            key = self.gateway.session_key(params.session_key, agent_id=params.agent_id)
            agent = agents.find(key.agent_id, param="sessionKey")
        elif params.agent_id is not None:
            agent = agents.find(params.agent_id, param="agentId")
        else:
            agent = agents.default
        return {"agentId": agent.id, "name": agent.name, "avatar": agent.name[:1].upper()}

    async def list(self, call: Call, params: NoParams) -> object:
        """The default one first; where an agent works, for administrators."""
        directory = self.gateway.directory(call.principal)
        default = directory.default
        others = [one for one in directory if one.id != default.id]
        return {
            "defaultId": default.id,
            "mainKey": MAIN,
            "scope": "per-sender",
            "agents": [_row(agent, call.principal) for agent in (default, *others)],
        }

    async def create(self, call: Call, params: CreateParams) -> object:
        """Answered once the agent can be used, and has its workspace."""
        agent_id = agent_id_of(params.name)
        before = await self._snapshot()
        given = params.model_dump(exclude_none=True)
        await self._change(before, added(agent_id, given, has_entries(before.config)))
        agent = self.gateway.settings.agents.get(agent_id)
        told: dict[str, Any] = {"ok": True, "agentId": agent_id, "name": params.name}
        if agent is None:
            return {**told, "workspace": params.workspace, "applied": False}
        await asyncio.to_thread(self.workspaces.ensure, agent.workspace)
        return {**told, "workspace": agent.workspace}

    async def update(self, call: Call, params: UpdateParams) -> object:
        agent_id = params.agent_id.strip().lower()
        given = params.model_dump(exclude_none=True, exclude={"agent_id"})
        before = await self._snapshot()
        keyed = has_entries(before.config)
        await self._change(before, changed(agent_id, given, self._known(agent_id), keyed))
        return {"ok": True, "agentId": agent_id}

    async def delete(self, call: Call, params: DeleteParams) -> object:
        """Its sessions stay, to be read. Runs that go on end with what they began with."""
        agent_id = params.agent_id.strip().lower()
        agent = self.gateway.settings.agents.get(agent_id)
        before = await self._snapshot()
        removal = Removal(agent_id, self._known(agent_id), has_entries(before.config))
        await self._change(before, removal)
        told: dict[str, Any] = {"ok": True, "agentId": agent_id}
        told["removedBindings"] = removal.bindings
        if params.delete_files and agent is not None and not self._shared(agent):
            told["movedTo"] = await self._retired(agent)
        return told

    async def _retired(self, agent: Agent) -> str | None:
        """Where the workspace is now. The agent is gone already, so a failure is no error."""
        try:
            return await asyncio.to_thread(self.workspaces.retire, agent.workspace)
        except GatewayError:
            return None

    async def _snapshot(self) -> ConfigSnapshot:
        return await asyncio.to_thread(self.config.snapshot)

    async def _change(self, before: ConfigSnapshot, patch: MakePatch) -> None:
        """Write, and wait until it is in force, where it will be."""
        held = self.gateway.settings
        after = await asyncio.to_thread(self.config.change, patch)
        if after.hash != before.hash and reload_mode(before) not in HELD_BACK:
            await taken_over(lambda: self.gateway.settings is not held)

    def _known(self, agent_id: str) -> bool:
        return self.gateway.settings.agents.get(agent_id) is not None

    def _shared(self, agent: Agent) -> bool:
        """Whether another agent works in the same directory, or below it."""
        others = [one.workspace for one in self.gateway.settings.agents if one.id != agent.id]
        return any(f"{other}/".startswith(f"{agent.workspace}/") for other in others)


def _row(agent: Agent, principal: Principal) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": agent.id,
        "name": agent.name,
        "identity": {"name": agent.name},
    }
    if agent.models:
        primary, *fallbacks = (target.ref for target in agent.models)
        row["model"] = {"primary": primary, "fallbacks": fallbacks}
    if principal.may(Scope.ADMIN):
        row["workspace"] = agent.workspace
    return row
