"""The payloads of `health` and `status`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ....domain.access import ALL_SCOPES, Principal, Scope
from ....domain.errors import StoreFailed
from ....domain.sessions import SessionInfo, SessionQuery
from .connection import Call
from .dependencies import Dependencies

_PRINCIPAL = Principal("gateway", ALL_SCOPES, "internal")
_RECENT = 10
_NO_HEARTBEAT = {
    "enabled": False,
    "every": "0m",
    "everyMs": 0,
    "prompt": "",
    "target": "none",
    "ackMaxChars": 300,
}


class HealthReport:
    """Reports the health of the components, and what they hold."""

    def __init__(self, dependencies: Dependencies) -> None:
        self.dependencies = dependencies
        self.gateway = dependencies.gateway
        self.session_service = dependencies.session_service
        self.clock = dependencies.clock

    async def health(self) -> dict[str, Any]:
        """The failing components, and counts. If sessions or runs cannot be read, the store is
        reported as failing instead of raising, and the number of runs is null."""
        began = self.clock()
        failing = dict(await self.dependencies.check())
        agents = self.gateway.settings.agents
        nodes: list[dict[str, object]] = []
        active = None
        try:
            listed, sessions = await self._listed("store" not in failing)
            active = len(await self.gateway.active(_PRINCIPAL))
            nodes = await self._nodes()
        except StoreFailed as error:
            failing["store"] = error.message
            listed, sessions = await self._listed(False)
        return {
            "ok": not failing,
            "failing": failing,
            "ts": int(began * 1_000),
            "durationMs": max(0, int((self.clock() - began) * 1_000)),
            "channels": {},
            "channelOrder": [],
            "channelLabels": {},
            "heartbeatSeconds": 0,
            "defaultAgentId": agents.default.id,
            "agents": listed,
            "sessions": sessions,
            "runs": {"active": active},
            **({"nodes": nodes} if nodes else {}),
        }

    async def brief(self) -> dict[str, Any]:
        """The short form in a `hello-ok`: the failing components only."""
        failing = dict(await self.dependencies.check())
        payload: dict[str, Any] = {"ok": not failing, "ts": int(self.clock() * 1_000)}
        return payload | {"failing": failing} if failing else payload

    async def status(self, call: Call) -> dict[str, Any]:
        """A summary of sessions, agents, runs, MCP servers, sandboxes and Python agents.

        Only administrators see the store's path, and why one of the others is not available."""
        path = self.dependencies.store if call.principal.may(Scope.ADMIN) else "[redacted]"
        agents = self.gateway.settings.agents
        by_agent = [
            {"agentId": agent.id, "path": path, **await self._recent(call.principal, agent.id)}
            for agent in agents
        ]
        target = next(iter(agents.default.models), None)
        recent = await self._recent(call.principal, None)
        servers = _for(call.principal, self.dependencies.tool_servers())
        sandboxes = _for(call.principal, await self.dependencies.sandboxes())
        python_agents = _for(call.principal, self.dependencies.python_agents())
        nodes = await self._nodes()
        return {
            "runtimeVersion": self.dependencies.facts.version,
            "heartbeat": {
                "defaultAgentId": agents.default.id,
                "agents": [{"agentId": agent.id, **_NO_HEARTBEAT} for agent in agents],
            },
            "channelSummary": [],
            "queuedSystemEvents": [],
            "runs": {"active": len(await self.gateway.active(call.principal))},
            **({"mcp": {"servers": servers}} if servers else {}),
            **({"sandboxes": sandboxes} if sandboxes else {}),
            **({"pythonAgents": python_agents} if python_agents else {}),
            **({"nodes": nodes} if nodes else {}),
            "sessions": {
                "paths": [path] if call.principal.may(Scope.ADMIN) else [],
                "count": recent["count"],
                "defaults": {
                    "model": None if target is None else target.ref,
                    "contextTokens": None if target is None else target.context_window,
                },
                "recent": recent["recent"],
                "byAgent": by_agent,
            },
        }

    async def _nodes(self) -> list[dict[str, object]]:
        """The processes of this Gateway, where there can be several; `sameConfiguration`: as this
        one has."""
        if not self.dependencies.bus.shared:
            return []
        own = self.gateway.settings.generation
        return [
            {
                "id": node.id,
                "name": node.name,
                "role": node.role,
                "version": node.version,
                "alive": node.alive,
                "isSelf": node.id == self.dependencies.bus.node_id,
                "configuration": node.configuration,
                "sameConfiguration": node.configuration == own,
                "runs": node.runs,
            }
            for node in await self.dependencies.nodes.list()
        ]

    async def _listed(self, readable: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The agents, and the sessions of all of them."""
        agents = self.gateway.settings.agents
        rows = [
            {
                "agentId": agent.id,
                "name": agent.name,
                "isDefault": agent.id == agents.default.id,
                "heartbeat": _NO_HEARTBEAT,
                "sessions": await self._sessions(agent.id, readable=readable),
            }
            for agent in agents
        ]
        return rows, await self._sessions(None, readable=readable)

    async def _sessions(self, agent_id: str | None, *, readable: bool) -> dict[str, Any]:
        if not readable:
            return {"path": "[redacted]", "count": 0, "recent": []}
        query = SessionQuery(agent_id=agent_id, limit=5)
        page = await self.session_service.list(_PRINCIPAL, query)
        now = self.clock()
        recent = [
            {
                "key": str(info.key),
                "updatedAt": int(info.updated_at * 1_000),
                "age": max(0, int((now - info.updated_at) * 1_000)),
            }
            for info in page.sessions
        ]
        return {"path": "[redacted]", "count": page.total, "recent": recent}

    async def _recent(self, principal: Principal, agent_id: str | None) -> dict[str, Any]:
        query = SessionQuery(agent_id=agent_id, limit=_RECENT)
        page = await self.session_service.list(principal, query)
        return {"count": page.total, "recent": [self._row(info) for info in page.sessions]}

    def _row(self, info: SessionInfo) -> dict[str, Any]:
        models = self.gateway.settings.models
        target = models.get(info.model)
        if target is None:
            agent = self.gateway.settings.agents.get(info.key.agent_id)
            target = agent.models[0] if agent is not None and agent.models else None
        window = None if target is None else target.context_window
        used = info.input_tokens + info.output_tokens
        row: dict[str, Any] = {
            "agentId": info.key.agent_id,
            "key": str(info.key),
            "kind": "direct",
            "sessionId": info.session_id,
            "updatedAt": int(info.updated_at * 1_000),
            "age": max(0, int((self.clock() - info.updated_at) * 1_000)),
            "inputTokens": info.input_tokens,
            "outputTokens": info.output_tokens,
            "totalTokens": used,
            "model": info.model or (target.ref if target is not None else None),
            "contextTokens": window,
            "flags": [],
        }
        for name in ("thinkingLevel", "verboseLevel", "label"):
            if name in info.settings:
                row[name] = info.settings[name]
        return row


_PRIVATE = ("problem", "leftOut", "target")


def _for(principal: Principal, parts: Iterable[Mapping[str, object]]) -> list[dict[str, object]]:
    """The health of the parts; only administrators see what is wrong."""
    may = principal.may(Scope.ADMIN)
    return [
        {key: value for key, value in part.items() if may or key not in _PRIVATE} for part in parts
    ]
