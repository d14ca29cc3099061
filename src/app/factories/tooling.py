"""Tools, the policy that guards them, and the sandbox that commands run in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...adapters.config import Locations
from ...adapters.mcp import McpToolbox
from ...adapters.sandbox import Bubblewrap
from ...adapters.tools import BuiltinTools, CombinedToolbox, Fetcher, PolicyToolbox, SessionTools
from ...domain.ports import (
    ApprovalBook,
    Clock,
    CurrentSettings,
    NewId,
    NodeBus,
    Sandbox,
    SessionCatalog,
    Toolbox,
    ToolContext,
    WebClient,
    Workspaces,
)
from ...domain.runs import Validate
from ...domain.services import AgentSessions, Gateway, KeyedCalls, ToolService
from ...domain.tools import BUILT_IN_SOURCE, MCP_SOURCE
from .. import plugins
from ..shared import SharedStores


def sandbox(
    env: Mapping[str, str],
    home: Path | None,
    locations: Locations,
    settings: CurrentSettings,
    workspaces: Workspaces,
) -> Sandbox:
    def hidden() -> list[str]:
        """The files of the Gateway."""
        current = settings()
        found = [str(locations.state_dir), str(locations.config_path)]
        return [*found, *filter(None, (current.store.path, current.logging.file))]

    homes = () if home is None else (str(home),)
    return Bubblewrap(
        env,
        homes=homes,
        hidden=hidden,
        readable=[str(locations.skills_path)],
        ensure=workspaces.ensure,
    )


def builtin_tools(
    workspaces: Workspaces,
    sandbox: Sandbox,
    web: WebClient,
    env: Mapping[str, str],
    locations: Locations,
    clock: Clock,
) -> BuiltinTools:
    return BuiltinTools(
        workspaces,
        sandbox,
        env=env,
        memory_dir=locations.state_dir / "memory-index",
        clock=clock,
        fetcher=Fetcher(web),
        skills=str(locations.skills_path),
    )


def mcp(settings: CurrentSettings, env: Mapping[str, str], sandbox: Sandbox) -> McpToolbox:
    """Starts no server for an agent that may use none of its tools."""

    def wanted(context: ToolContext, prefix: str) -> bool:
        return context.agent.tools.may_name(prefix, MCP_SOURCE)

    return McpToolbox(settings, env, sandbox, wanted=wanted)


def session_tools(agent_sessions: AgentSessions, clock: Clock) -> SessionTools:
    return SessionTools(agent_sessions, clock=clock)


def all_tools(
    builtin_tools: BuiltinTools,
    session_tools: SessionTools,
    mcp: McpToolbox,
    find_plugins: plugins.Find,
) -> Toolbox:
    """Every tool that there is, whether agents may use it or not."""
    own = CombinedToolbox({"workspace": builtin_tools, "sessions": session_tools})
    return CombinedToolbox(
        {BUILT_IN_SOURCE: own, MCP_SOURCE: mcp, **plugins.toolboxes(find_plugins)}
    )


def toolbox(all_tools: Toolbox, approval_book: ApprovalBook) -> Toolbox:
    return PolicyToolbox(all_tools, approval_book)


def keyed_calls(shared: SharedStores | None, bus: NodeBus, monotonic: Clock) -> KeyedCalls:
    return KeyedCalls(book=None if shared is None else shared.calls, bus=bus, monotonic=monotonic)


def tool_service(
    gateway: Gateway,
    catalog: SessionCatalog,
    all_tools: Toolbox,
    toolbox: Toolbox,
    approval_book: ApprovalBook,
    validate: Validate,
    keyed_calls: KeyedCalls,
    new_id: NewId,
    clock: Clock,
    monotonic: Clock,
) -> ToolService:
    return ToolService(
        gateway=gateway,
        catalog=catalog,
        all_tools=all_tools,
        toolbox=toolbox,
        approvals=approval_book,
        validate=validate,
        keyed=keyed_calls,
        new_id=new_id,
        clock=clock,
        monotonic=monotonic,
    )
