"""`tools.*`: the tools of agents, and single calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from .....domain.errors import UnknownTool
from .....domain.services import CallOutcome, DirectCall
from .....domain.tools import (
    BUILT_IN_SOURCE,
    GROUP,
    GROUPS,
    MCP_SOURCE,
    PROFILES,
    Names,
    Ruling,
    ToolSpec,
    Verdict,
)
from ...tool_calls import result_object
from ..connection import Call, Params
from ..protocol import Key, Name
from .service import ControlService, answers

_LABELS: Mapping[str, str] = {
    "fs": "Files",
    "runtime": "Commands",
    "web": "Web",
    "sessions": "Sessions",
    "memory": "Memory",
}
"""Of the groups of built-in tools."""
_SOURCES: Mapping[str, str] = {BUILT_IN_SOURCE: "core", MCP_SOURCE: "mcp"}
_CODES: Mapping[CallOutcome, str] = {
    CallOutcome.FAILED: "tool_error",
    CallOutcome.APPROVAL_REQUIRED: "approval_required",
}
_Tools = Iterable[tuple[ToolSpec, Ruling]]


class CatalogParams(Params):
    """`agent_id`: by default the default agent. `include_plugins`: false leaves out tools that are
    not the Gateway's own."""

    agent_id: Name | None = None
    include_plugins: bool | None = None


class EffectiveParams(Params):
    """The session, by default the main one of the agent."""

    session_key: Key | None = None
    agent_id: Name | None = None


class InvokeParams(Params):
    """One call. `confirm` has no effect: an approval is a decision of its own."""

    name: Name
    args: dict[str, Any] = Field(default_factory=dict)
    session_key: Key | None = None
    agent_id: Name | None = None
    confirm: bool | None = None
    idempotency_key: Name | None = None


class ToolMethods(ControlService):
    @answers("tools.catalog", CatalogParams)
    async def _catalog(self, call: Call, params: CatalogParams) -> object:
        listing = await self.dependencies.tools.listing(call.principal, agent_id=params.agent_id)
        own_only = params.include_plugins is False
        tools = [one for one in listing.tools if not own_only or one[0].source == BUILT_IN_SOURCE]
        return {
            "agentId": listing.context.agent.id,
            "profiles": [{"id": name, "label": name.capitalize()} for name in PROFILES],
            "groups": _groups(
                (spec, _row(spec) | _ruling(ruling) | {"defaultProfiles": _profiles_of(spec)})
                for spec, ruling in tools
            ),
        }

    @answers("tools.effective", EffectiveParams)
    async def _effective(self, call: Call, params: EffectiveParams) -> object:
        listing = await self.dependencies.tools.listing(
            call.principal, session_key=params.session_key, agent_id=params.agent_id
        )
        agent = listing.context.agent
        return {
            "agentId": agent.id,
            "profile": agent.tools.own.profile or agent.tools.shared.profile or "none",
            "groups": _groups(
                (
                    spec,
                    _row(spec)
                    | {
                        "rawDescription": spec.description,
                        "requiresApproval": ruling.verdict is Verdict.ASK,
                    },
                )
                for spec, ruling in listing.tools
                if ruling.verdict is not Verdict.DENIED
            ),
        }

    @answers("tools.invoke", InvokeParams)
    async def _invoke(self, call: Call, params: InvokeParams) -> object:
        asked = DirectCall(
            tool=params.name,
            arguments=params.args,
            session_key=params.session_key,
            agent_id=params.agent_id,
            idempotency_key=params.idempotency_key,
            source="control",
        )
        try:
            result = await self.dependencies.tools.call(call.principal, asked)
        except UnknownTool as error:
            return _refused(params.name, "not_found", error.message)
        if result.outcome in (CallOutcome.DONE, CallOutcome.CHECKED):
            return {"ok": True, "toolName": params.name, "output": result_object(result.text)}
        refused = _refused(params.name, _CODES[result.outcome], result.text)
        if result.outcome is CallOutcome.APPROVAL_REQUIRED:
            refused["requiresApproval"] = True
        return refused


def _refused(name: str, code: str, message: str) -> dict[str, object]:
    return {"ok": False, "toolName": name, "error": {"code": code, "message": message}}


def _groups(rows: Iterable[tuple[ToolSpec, dict[str, object]]]) -> list[dict[str, object]]:
    """The rows by group: those of the Gateway's own tools, and one for each other source."""
    groups: dict[str, dict[str, Any]] = {}
    for spec, row in rows:
        group = _group_of(spec)
        source = _source_of(spec)
        label = _LABELS.get(group, group if source == "plugin" else group.upper())
        made = {"id": group, "label": label, "source": source, "tools": []}
        groups.setdefault(group, made)["tools"].append(row)
    return list(groups.values())


def _group_of(spec: ToolSpec) -> str:
    if spec.source == BUILT_IN_SOURCE:
        for group in _LABELS:
            if spec.name in GROUPS[f"{GROUP}{group}"]:
                return group
    return spec.source


def _source_of(spec: ToolSpec) -> str:
    return _SOURCES.get(spec.source, "plugin")


def _row(spec: ToolSpec) -> dict[str, object]:
    return {
        "id": spec.name,
        "label": spec.name,
        "description": spec.description,
        "source": _source_of(spec),
    }


def _ruling(ruling: Ruling) -> dict[str, object]:
    return {"verdict": str(ruling.verdict), "rule": str(ruling.rule)}


def _profiles_of(spec: ToolSpec) -> list[str]:
    return [name for name, entries in PROFILES.items() if Names(entries).match(spec) is not None]
