"""`agents.*`: listing agents, and editing them in the configuration file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from ......domain.access import Principal, Scope
from ......domain.agents import Agent
from ......domain.errors import GatewayError
from ......domain.ports import ConfigFile, Workspaces
from ......domain.ports.configuration import ConfigSnapshot, MakePatch
from ......domain.services import Gateway
from ......domain.sessions import MAIN
from ...connection import Call, Handler, Handlers, NoParams, Params
from ...protocol import Name, SessionKeyText, Text
from ..config import HELD_BACK, reload_mode, wait_applied
from .entries import Removal, added, agent_id_of, changed, has_entries
from .files import AgentFiles


class IdentityParams(Params):
    """An agent, or the agent of a session; by default the default agent."""

    agent_id: Name | None = None
    session_key: SessionKeyText | None = None


class CreateParams(Params):
    """The id is made from the name. `workspace` defaults to `workspace-<id>` in the state
    directory."""

    name: Name
    workspace: Text | None = None
    model: Name | None = None
    emoji: Name | None = None
    avatar: Text | None = None


class UpdateParams(Params):
    """Fields that are left out stay unchanged."""

    agent_id: Name
    name: Name | None = None
    workspace: Text | None = None
    model: Name | None = None
    emoji: Name | None = None
    avatar: Text | None = None


class DeleteParams(Params):
    """`delete_files`: also rename the agent's own workspace. Files are never deleted."""

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
        """The default agent first. Only administrators see the workspaces."""
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
        """Responds when the agent is usable and has its workspace."""
        agent_id = agent_id_of(params.name)
        before = await self._snapshot()
        fields = params.model_dump(exclude_none=True)
        await self._change(before, added(agent_id, fields, has_entries(before.config)))
        agent = self.gateway.settings.agents.get(agent_id)
        payload: dict[str, Any] = {"ok": True, "agentId": agent_id, "name": params.name}
        if agent is None:
            return {**payload, "workspace": params.workspace, "applied": False}
        await asyncio.to_thread(self.workspaces.ensure, agent.workspace)
        return {**payload, "workspace": agent.workspace}

    async def update(self, call: Call, params: UpdateParams) -> object:
        agent_id = params.agent_id.strip().lower()
        fields = params.model_dump(exclude_none=True, exclude={"agent_id"})
        before = await self._snapshot()
        keyed = has_entries(before.config)
        await self._change(before, changed(agent_id, fields, self._known(agent_id), keyed))
        return {"ok": True, "agentId": agent_id}

    async def delete(self, call: Call, params: DeleteParams) -> object:
        """The agent's sessions stay readable. Its active runs continue with their settings."""
        agent_id = params.agent_id.strip().lower()
        agent = self.gateway.settings.agents.get(agent_id)
        before = await self._snapshot()
        removal = Removal(agent_id, self._known(agent_id), has_entries(before.config))
        await self._change(before, removal)
        payload: dict[str, Any] = {"ok": True, "agentId": agent_id}
        payload["removedBindings"] = removal.bindings
        if params.delete_files and agent is not None and not self._shared(agent):
            payload["movedTo"] = await self._retired(agent)
        return payload

    async def _retired(self, agent: Agent) -> str | None:
        """The new path of the workspace; None if renaming fails, since the agent is already
        removed."""
        try:
            return await asyncio.to_thread(self.workspaces.retire, agent.workspace)
        except GatewayError:
            return None

    async def _snapshot(self) -> ConfigSnapshot:
        return await asyncio.to_thread(self.config.snapshot)

    async def _change(self, before: ConfigSnapshot, patch: MakePatch) -> None:
        """Write the file, and wait until the Gateway has applied it, unless that is disabled."""
        previous = self.gateway.settings
        after = await asyncio.to_thread(self.config.change, patch)
        if after.hash != before.hash and reload_mode(before) not in HELD_BACK:
            await wait_applied(lambda: self.gateway.settings is not previous)

    def _known(self, agent_id: str) -> bool:
        return self.gateway.settings.agents.get(agent_id) is not None

    def _shared(self, agent: Agent) -> bool:
        """Whether another agent's workspace is this directory, or a parent of it."""
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
