"""`agents.*`: agents, their entries in the configuration, and the files of their workspaces."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from pydantic import Field

from .....domain.access import Principal, Scope
from .....domain.agents import Agent
from .....domain.errors import GatewayError, InvalidRequest, UnknownAgent
from .....domain.ports.configuration import ConfigSnapshot, MakePatch
from .....domain.ports.workspaces import FILE_NAMES, WorkspaceFile
from .....domain.sessions import MAIN
from ..connection import Call, NoParams, Params
from ..protocol import Name, SessionKeyText, Text
from .agent_entries import Removal, added, agent_id_of, changed, has_entries
from .config_schema import HELD_BACK, reload_mode, wait_applied
from .service import ControlService, answers

_SECOND_SPELLING = "memory.md"
"""An alternative spelling, which is not listed as missing."""


class AgentParams(Params):
    """An agent."""

    agent_id: Name


class FileParams(AgentParams):
    """A workspace file."""

    name: Annotated[str, Field(min_length=1, max_length=256)]


class WriteParams(FileParams):
    """The file's whole text, at most 1 MiB."""

    content: str


class AgentFiles(ControlService):
    @answers("agents.files.list", AgentParams)
    async def _list(self, call: Call, params: AgentParams) -> object:
        agent = self._agent(params)
        found = await asyncio.to_thread(self._look, agent.workspace)
        files = [
            _entry(agent, name, file, call.principal)
            for name, file in found.items()
            if file is not None or name != _SECOND_SPELLING
        ]
        return {**_head(agent, call.principal), "files": files}

    @answers("agents.files.get", FileParams)
    async def _get(self, call: Call, params: FileParams) -> object:
        """A missing file is not an error: the client may create it."""
        agent = self._agent(params)
        name = _supported(params.name)
        found = await asyncio.to_thread(self.dependencies.workspaces.read, agent.workspace, name)
        file, text = found or (None, None)
        entry = _entry(agent, name, file, call.principal)
        if text is not None:
            entry["content"] = text
        return {**_head(agent, call.principal), "file": entry}

    @answers("agents.files.set", WriteParams)
    async def _set(self, call: Call, params: WriteParams) -> object:
        agent = self._agent(params)
        name = _supported(params.name)
        file = await asyncio.to_thread(
            self.dependencies.workspaces.write, agent.workspace, name, params.content
        )
        entry = {**_entry(agent, name, file, call.principal), "content": params.content}
        return {"ok": True, **_head(agent, call.principal), "file": entry}

    @answers("agents.workspace.ensure", AgentParams)
    async def _ensure(self, call: Call, params: AgentParams) -> object:
        agent = self._agent(params)
        made = await asyncio.to_thread(self.dependencies.workspaces.ensure, agent.workspace)
        return {"ok": True, **_head(agent, call.principal), "created": made}

    def _agent(self, params: AgentParams) -> Agent:
        agent = self.gateway.settings.agents.get(params.agent_id)
        if agent is None:
            raise UnknownAgent(f'unknown agent id "{params.agent_id}"', param="agentId")
        return agent

    def _look(self, workspace: str) -> dict[str, WorkspaceFile | None]:
        """The existing files; anything but a regular file counts as missing."""
        found: dict[str, WorkspaceFile | None] = {}
        for name in FILE_NAMES:
            try:
                found[name] = self.dependencies.workspaces.find(workspace, name)
            except InvalidRequest:
                found[name] = None
        return found


def _supported(name: str) -> str:
    if name not in FILE_NAMES:
        raise InvalidRequest(f'unsupported file "{name}"', param="name")
    return name


def _head(agent: Agent, principal: Principal) -> dict[str, Any]:
    head: dict[str, Any] = {"agentId": agent.id}
    if principal.may(Scope.ADMIN):
        head["workspace"] = agent.workspace
    return head


def _entry(
    agent: Agent, name: str, file: WorkspaceFile | None, principal: Principal
) -> dict[str, Any]:
    """Only administrators see the path."""
    path = f"{agent.workspace}/{name}" if principal.may(Scope.ADMIN) else name
    entry: dict[str, Any] = {"name": name, "path": path, "missing": file is None}
    if file is not None:
        entry |= {"size": file.size, "updatedAtMs": int(file.updated_at * 1_000)}
    return entry


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


class AgentMethods(ControlService):
    @answers("agent.identity.get", IdentityParams)
    async def _identity(self, call: Call, params: IdentityParams) -> object:
        agents = self.gateway.settings.agents
        if params.session_key is not None:
            key = self.gateway.session_key(
                params.session_key, agent_id=params.agent_id, principal=call.principal
            )
            agent = agents.find(key.agent_id, param="sessionKey")
        elif params.agent_id is not None:
            agent = agents.find(params.agent_id, param="agentId")
        else:
            agent = agents.default
        return {"agentId": agent.id, "name": agent.name, "avatar": agent.name[:1].upper()}

    @answers("agents.list", NoParams)
    async def _list(self, call: Call, params: NoParams) -> object:
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

    @answers("agents.create", CreateParams)
    async def _create(self, call: Call, params: CreateParams) -> object:
        """Responds when the agent is usable and has its workspace."""
        agent_id = agent_id_of(params.name)
        before = await asyncio.to_thread(self.dependencies.config.snapshot)
        fields = params.model_dump(exclude_none=True)
        await self._change(before, added(agent_id, fields, has_entries(before.config)))
        agent = self.gateway.settings.agents.get(agent_id)
        payload: dict[str, Any] = {"ok": True, "agentId": agent_id, "name": params.name}
        if agent is None:
            return {**payload, "workspace": params.workspace, "applied": False}
        await asyncio.to_thread(self.dependencies.workspaces.ensure, agent.workspace)
        return {**payload, "workspace": agent.workspace}

    @answers("agents.update", UpdateParams)
    async def _update(self, call: Call, params: UpdateParams) -> object:
        agent_id = params.agent_id.strip().lower()
        fields = params.model_dump(exclude_none=True, exclude={"agent_id"})
        before = await asyncio.to_thread(self.dependencies.config.snapshot)
        keyed = has_entries(before.config)
        await self._change(before, changed(agent_id, fields, self._known(agent_id), keyed))
        return {"ok": True, "agentId": agent_id}

    @answers("agents.delete", DeleteParams)
    async def _delete(self, call: Call, params: DeleteParams) -> object:
        """The agent's sessions stay readable. Its active runs continue with their settings."""
        agent_id = params.agent_id.strip().lower()
        agent = self.gateway.settings.agents.get(agent_id)
        before = await asyncio.to_thread(self.dependencies.config.snapshot)
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
            return await asyncio.to_thread(self.dependencies.workspaces.retire, agent.workspace)
        except GatewayError:
            return None

    async def _change(self, before: ConfigSnapshot, patch: MakePatch) -> None:
        """Write the file, and wait until the Gateway has applied it, unless that is disabled."""
        previous = self.gateway.settings
        after = await asyncio.to_thread(self.dependencies.config.change, patch)
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
