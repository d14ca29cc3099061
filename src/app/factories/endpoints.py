"""The transports: HTTP routes and the WebSocket control plane."""

from __future__ import annotations

from collections.abc import Callable

from ...adapters.config import ConfigSource
from ...adapters.mcp import McpToolbox
from ...adapters.persistence.memory import MemoryHeartbeats
from ...adapters.python_agents import PythonAgents
from ...adapters.system.logging import LogRing
from ...adapters.transports import (
    RouteTable,
    Transport,
    a2a,
    anthropic,
    health,
    mcp_server,
    metrics,
    openapi,
)
from ...adapters.transports import approvals as approvals_http
from ...adapters.transports import runs as runs_http
from ...adapters.transports import tool_calls as tool_calls_http
from ...adapters.transports.control.dependencies import Dependencies
from ...adapters.transports.control.handshake import Facts
from ...adapters.transports.control.plane import ControlPlane
from ...adapters.transports.openai import chat as openai_chat
from ...adapters.transports.openai import completions as openai_completions
from ...adapters.transports.openai import conversations as openai_conversations
from ...adapters.transports.openai import embeddings as openai_embeddings
from ...adapters.transports.openai import models as openai_models
from ...adapters.transports.openai import responses as openai_responses
from ...domain.execution import Executor
from ...domain.ports import (
    Clock,
    ConfigFile,
    CurrentSettings,
    Meter,
    NewId,
    NodeBus,
    NodeDirectory,
    Sandbox,
    WebClient,
    Workspaces,
)
from ...domain.services import (
    Approvals,
    Devices,
    EmbeddingService,
    Gateway,
    Keys,
    Responses,
    SessionService,
    TokenCounts,
    ToolService,
)
from ...domain.settings import NodeRole
from .. import plugins
from ..meters import NodeMeter, RunMeter
from ..readiness import Readiness
from ..shared import SharedStores, WorkQueue


def control(
    gateway: Gateway,
    bus: NodeBus,
    shared: SharedStores | None,
    nodes: NodeDirectory,
    session_service: SessionService,
    approvals: Approvals,
    devices: Devices,
    keys: Keys,
    tool_service: ToolService,
    config_file: ConfigFile,
    workspaces: Workspaces,
    settings: CurrentSettings,
    source: ConfigSource,
    readiness: Readiness,
    mcp: McpToolbox,
    sandbox: Sandbox,
    python_agents: PythonAgents,
    log_ring: LogRing,
    stop_process: Callable[[], None],
    facts: Facts,
    clock: Clock,
    new_id: NewId,
) -> ControlPlane:
    async def sandboxes() -> list[dict[str, object]]:
        """The agents that have a sandbox, and whether it is available."""
        found: list[dict[str, object]] = []
        for agent in settings().agents:
            if agent.sandbox.confines:
                problem = await sandbox.problem(agent.sandbox, agent.workspace)
                row = {"agentId": agent.id, "mode": agent.sandbox.mode.value}
                shown = {"problem": problem} if problem else {}
                found.append({**row, "available": not problem, **shown})
        return found

    store = settings().store
    return ControlPlane(
        Dependencies(
            gateway=gateway,
            bus=bus,
            presence=None if shared is None else shared.presence,
            session_changes=None if shared is None else shared.session_changes,
            heartbeats=MemoryHeartbeats() if shared is None else shared.heartbeats,
            session_service=session_service,
            approvals=approvals,
            devices=devices,
            keys=keys,
            tools=tool_service,
            config=config_file,
            applied=lambda: source.loaded.sha256,
            workspaces=workspaces,
            check=readiness.check,
            read_log=log_ring.tail,
            log_file=lambda: settings().logging.file,
            stop=stop_process,
            facts=facts,
            tool_servers=lambda: [server.described() for server in mcp.health()],
            sandboxes=sandboxes,
            python_agents=lambda: [state.described() for state in python_agents.states()],
            nodes=nodes,
            store=store.place,
            clock=clock,
            new_id=new_id,
        )
    )


def meters(
    work_queue: WorkQueue,
    executor: Executor,
    settings: CurrentSettings,
    shared: SharedStores | None,
) -> list[Meter]:
    node = NodeMeter(executor, lambda: settings().lanes.max_concurrent)
    return [RunMeter(work_queue), node, *([] if shared is None else [shared.meter])]


def transports(
    gateway: Gateway,
    approvals: Approvals,
    responses: Responses,
    tool_service: ToolService,
    embeddings: EmbeddingService,
    token_counts: TokenCounts,
    control: ControlPlane,
    readiness: Readiness,
    meters: list[Meter],
    web: WebClient,
    facts: Facts,
    clock: Clock,
    monotonic: Clock,
    settings: CurrentSettings,
    find_plugins: plugins.Find,
) -> list[Transport]:
    every: list[Transport] = []
    probes = [
        health.transport(readiness.check, readiness.degraded),
        metrics.transport(meters),
        openapi.transport(lambda: RouteTable(every)),
    ]
    if settings().node.role is NodeRole.WORKER:
        every += probes
        return every
    own = [
        openai_chat.transport(gateway, approvals, web),
        openai_completions.transport(gateway, approvals),
        openai_embeddings.transport(embeddings),
        openai_models.transport(gateway, started_at=clock()),
        anthropic.transport(gateway, approvals, token_counts, web),
        openai_responses.transport(gateway, approvals, responses, token_counts, web, clock=clock),
        openai_conversations.transport(gateway, responses, clock=clock),
        runs_http.transport(gateway),
        a2a.transport(gateway, approvals, web),
        approvals_http.transport(approvals),
        tool_calls_http.transport(tool_service),
        mcp_server.transport(gateway, approvals, clock=monotonic, version=facts.version),
        *probes,
        control.transport(),
    ]
    every += plugins.with_transports(own, gateway, settings().transports, find_plugins)
    return every
