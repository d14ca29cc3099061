"""`agents.files.*` and `agents.workspace.ensure`: the files of an agent's workspace."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from ......domain.access import Principal, Scope
from ......domain.agents import Agent
from ......domain.errors import InvalidRequest, UnknownAgent
from ......domain.ports import Workspaces
from ......domain.ports.workspaces import FILE_NAMES, WorkspaceFile
from ......domain.services import Gateway
from ...connection import Call, Handler, Handlers, Params
from ...protocol import Name

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


@dataclass(frozen=True, slots=True)
class AgentFiles:
    gateway: Gateway
    workspaces: Workspaces

    def handlers(self) -> Handlers:
        return {
            "agents.files.list": Handler(AgentParams, self._list),
            "agents.files.get": Handler(FileParams, self._get),
            "agents.files.set": Handler(WriteParams, self._set),
            "agents.workspace.ensure": Handler(AgentParams, self._ensure),
        }

    async def _list(self, call: Call, params: AgentParams) -> object:
        agent = self._agent(params)
        found = await asyncio.to_thread(self._look, agent.workspace)
        files = [
            _entry(agent, name, file, call.principal)
            for name, file in found.items()
            if file is not None or name != _SECOND_SPELLING
        ]
        return {**_head(agent, call.principal), "files": files}

    async def _get(self, call: Call, params: FileParams) -> object:
        """A missing file is not an error: the client may create it."""
        agent = self._agent(params)
        name = _supported(params.name)
        found = await asyncio.to_thread(self.workspaces.read, agent.workspace, name)
        file, text = found or (None, None)
        entry = _entry(agent, name, file, call.principal)
        if text is not None:
            entry["content"] = text
        return {**_head(agent, call.principal), "file": entry}

    async def _set(self, call: Call, params: WriteParams) -> object:
        agent = self._agent(params)
        name = _supported(params.name)
        file = await asyncio.to_thread(self.workspaces.write, agent.workspace, name, params.content)
        entry = {**_entry(agent, name, file, call.principal), "content": params.content}
        return {"ok": True, **_head(agent, call.principal), "file": entry}

    async def _ensure(self, call: Call, params: AgentParams) -> object:
        agent = self._agent(params)
        made = await asyncio.to_thread(self.workspaces.ensure, agent.workspace)
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
                found[name] = self.workspaces.find(workspace, name)
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
