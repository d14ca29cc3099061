"""The composition root: it names every part once, beside the port that the part fits.

The functions of `factories` hold the wiring; each is called with the providers that have the names
of its parameters. The annotation `Provider[Port]` has the type checker refuse an adapter of another
shape at that line. Tests replace a part by argument: `Container(store=Object(fake))`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from dependency_injector.containers import DeclarativeContainer
from dependency_injector.providers import Factory, Object, Provider, Singleton

from ..adapters.config import ConfigSource, Inputs, Locations, Overrides, home_directory
from ..adapters.mcp import McpToolbox
from ..adapters.persistence.queue import Lanes
from ..adapters.providers.anthropic import AnthropicMessages
from ..adapters.providers.local.client import LocalModels
from ..adapters.providers.openai import OpenAICompletions
from ..adapters.providers.scripted import Scripted
from ..adapters.python_agents import PythonAgents
from ..adapters.runners.echo import EchoRunner
from ..adapters.system.files import TokenFile
from ..adapters.system.ids import clock as system_clock
from ..adapters.system.ids import new_id as fresh_id
from ..adapters.system.logging import LogBounds, LogRing
from ..adapters.tools import BuiltinTools, SchemaValidator, SessionTools, schema_check
from ..adapters.transports import Transport
from ..adapters.transports.control.handshake import Facts
from ..adapters.transports.control.plane import ControlPlane
from ..adapters.transports.model_server import ModelServer
from ..adapters.web import GuardedClient
from ..domain.execution import Executor, Generations, ModelRouter, SystemPrompts, TurnLoop
from ..domain.models import Cooldowns
from ..domain.ports import (
    AgentRunner,
    ApprovalBook,
    Clock,
    ConfigFile,
    CurrentSettings,
    DeviceBook,
    Embedder,
    KeyBook,
    KeyCounters,
    KnowledgeSource,
    Limits,
    Meter,
    ModelClient,
    NewId,
    NodeBus,
    NodeDirectory,
    NodeInfo,
    ResponseBook,
    RunEvents,
    RunQueue,
    RunSignals,
    Sandbox,
    SessionCatalog,
    SessionStore,
    Toolbox,
    WebClient,
    Workspaces,
)
from ..domain.runs import CompileSchema, Validate
from ..domain.services import (
    Access,
    AgentSessions,
    Approvals,
    Devices,
    EmbeddingService,
    Gateway,
    KeyedCalls,
    Keys,
    Quotas,
    Responses,
    SessionService,
    TokenCounts,
    ToolService,
)
from . import factories as making
from . import plugins
from .abilities import Abilities
from .late import Late
from .lifecycle import Lifecycle, Lock, Prepare
from .readiness import Readiness
from .reloads import ConfigureLogging, Reloads
from .shared import SharedStores, WorkQueue
from .shared_configuration import ConfigurationWatch, CopiedDocument
from .supervisor import Supervisor


class Container(DeclarativeContainer):
    """The Gateway's parts. Each is made when it is first asked for, once per container."""

    # The process.
    env: Provider[Mapping[str, str]] = Object(os.environ)
    find_plugins: Provider[plugins.Find] = Object(plugins.installed)
    home: Provider[Path | None] = Factory(home_directory)
    local_clock: Provider[Clock] = Object(system_clock)
    log_ring: Provider[LogRing] = Singleton(LogRing)
    monotonic: Provider[Clock] = Object(time.monotonic)
    new_id: Provider[NewId] = Object(fresh_id)
    overrides: Provider[Overrides] = Object(Overrides())
    stop_process: Provider[Callable[[], None]] = Object(making.stop_process)

    log_bounds: Provider[LogBounds] = Singleton(making.log_bounds, monotonic)
    configure_logging: Provider[ConfigureLogging] = Singleton(
        making.configure_logging, overrides, log_ring, log_bounds
    )

    # Configuration.
    inputs: Provider[Inputs] = Factory(making.inputs, env, home, overrides, find_plugins)
    locations: Provider[Locations] = Factory(making.locations, env, overrides, home)
    shared_configuration: Provider[CopiedDocument | None] = Singleton(
        making.shared_configuration, locations, inputs
    )
    config_file: Provider[ConfigFile] = Singleton(
        making.config_file, inputs, locations, shared_configuration
    )
    reloads: Provider[Reloads] = Singleton(Reloads)
    token_file: Provider[TokenFile] = Singleton(making.token_file, locations)
    source: Provider[ConfigSource] = Singleton(
        making.source, inputs, token_file, reloads, shared_configuration
    )
    settings: Provider[CurrentSettings] = Singleton(making.settings, source)
    clock: Provider[Clock] = Singleton(making.clock, local_clock, settings)
    facts: Provider[Facts] = Singleton(making.facts, locations, clock)

    # Storage.
    shared: Provider[SharedStores | None] = Singleton(
        making.shared, settings, clock, monotonic, new_id
    )
    bus: Provider[NodeBus] = Singleton(making.bus, shared, new_id)
    configuration_watch: Provider[ConfigurationWatch | None] = Singleton(
        making.configuration_watch, bus, shared, shared_configuration, source
    )
    nodes: Provider[NodeDirectory] = Singleton(making.nodes, shared, clock)
    store: Provider[SessionStore] = Singleton(making.store, settings, clock, monotonic, shared)
    catalog: Provider[SessionCatalog] = Singleton(making.catalog, store)
    stored_approvals: Provider[ApprovalBook] = Singleton(making.stored_approvals, store, shared)
    stored_responses: Provider[ResponseBook] = Singleton(making.stored_responses, store, shared)
    device_book: Provider[DeviceBook] = Singleton(making.device_book, settings, locations, shared)
    key_book: Provider[KeyBook] = Singleton(making.key_book, settings, locations, shared)
    lock: Provider[Lock] = Singleton(making.lock, locations, settings)
    run_events: Provider[RunEvents] = Singleton(
        making.run_events, settings, clock, monotonic, shared
    )
    workspaces: Provider[Workspaces] = Singleton(making.workspaces, locations)

    # The queue, and what waits in it.
    lanes: Provider[Lanes] = Singleton(making.lanes, settings)
    work_queue: Provider[WorkQueue] = Singleton(
        making.work_queue, run_events, lanes, clock, monotonic, shared
    )
    queue: Provider[RunQueue] = Singleton(making.queue, work_queue)
    signals: Provider[RunSignals] = Singleton(making.signals, work_queue)
    approvals: Provider[Approvals] = Singleton(
        making.approvals, stored_approvals, queue, signals, run_events, clock, bus
    )
    approval_book: Provider[ApprovalBook] = Singleton(making.approval_book, approvals)
    responses: Provider[Responses] = Singleton(
        making.responses, stored_responses, settings, catalog, queue, clock, new_id
    )

    # Models and runners.
    openai: Provider[ModelClient] = Singleton(OpenAICompletions)
    local: Provider[LocalModels] = Singleton(making.local, openai, locations)
    scripted: Provider[ModelClient] = Singleton(Scripted)
    anthropic: Provider[ModelClient] = Singleton(AnthropicMessages)
    models: Provider[Mapping[str, ModelClient]] = Singleton(
        making.models, openai, anthropic, local, scripted
    )
    embedders: Provider[Mapping[str, Embedder]] = Singleton(making.embedders)
    prepare: Provider[Mapping[str, Prepare]] = Singleton(making.prepare, local)
    cooldowns: Provider[Cooldowns] = Singleton(making.cooldowns, monotonic)
    router: Provider[ModelRouter] = Singleton(making.router, models, cooldowns)
    late_gateway: Provider[Late[Gateway]] = Singleton(Late)
    session_service: Provider[SessionService] = Singleton(
        making.session_service, settings, store, catalog, queue, router, clock, new_id, shared
    )
    agent_sessions: Provider[AgentSessions] = Singleton(
        making.agent_sessions, late_gateway, session_service, catalog, queue, run_events, settings
    )
    session_tools: Provider[SessionTools] = Singleton(making.session_tools, agent_sessions, clock)
    sandbox: Provider[Sandbox] = Singleton(
        making.sandbox, env, home, locations, settings, workspaces
    )
    web: Provider[WebClient] = Singleton(GuardedClient)
    builtin_tools: Provider[BuiltinTools] = Singleton(
        making.builtin_tools, workspaces, sandbox, web, env, locations, clock
    )
    mcp: Provider[McpToolbox] = Singleton(making.mcp, settings, env, sandbox)
    all_tools: Provider[Toolbox] = Singleton(
        making.all_tools, builtin_tools, session_tools, mcp, find_plugins
    )
    toolbox: Provider[Toolbox] = Singleton(making.toolbox, all_tools, approval_book)
    validate: Provider[Validate] = Singleton(SchemaValidator)
    compile_schema: Provider[CompileSchema] = Object(schema_check)
    knowledge: Provider[KnowledgeSource] = Singleton(making.knowledge, locations)
    system_prompts: Provider[SystemPrompts] = Singleton(making.system_prompts, knowledge, clock)
    native: Provider[TurnLoop] = Singleton(
        making.native,
        router,
        toolbox,
        approval_book,
        validate,
        compile_schema,
        system_prompts,
        clock,
        monotonic,
    )
    echo: Provider[AgentRunner] = Singleton(EchoRunner)
    model_server: Provider[ModelServer] = Singleton(making.model_server, router, settings, web)
    python_agents: Provider[PythonAgents] = Singleton(
        making.python_agents, find_plugins, model_server
    )
    python: Provider[AgentRunner] = Singleton(
        making.python, python_agents, approval_book, compile_schema, clock
    )
    commands: Provider[AgentRunner] = Singleton(
        making.commands, settings, session_service, queue, signals, approvals, toolbox
    )
    runners: Provider[Mapping[str, AgentRunner]] = Singleton(
        making.runners, native, echo, python, commands, find_plugins
    )

    # The domain.
    devices: Provider[Devices] = Singleton(making.devices, device_book, clock, bus)
    limits: Provider[Limits] = Singleton(making.limits, monotonic, shared)
    keys: Provider[Keys] = Singleton(making.keys, key_book, settings, clock, bus)
    key_counters: Provider[KeyCounters] = Singleton(making.key_counters, monotonic, shared)
    quotas: Provider[Quotas] = Singleton(
        making.quotas, keys, key_book, key_counters, run_events, settings, clock, monotonic, shared
    )
    access: Provider[Access] = Singleton(
        making.access, settings, limits, devices, keys, find_plugins
    )
    generations: Provider[Generations] = Singleton(
        making.generations, settings, configuration_watch
    )
    executor: Provider[Executor] = Singleton(
        making.executor,
        runners,
        store,
        catalog,
        work_queue,
        run_events,
        settings,
        generations,
        clock,
        bus,
        new_id,
        quotas,
    )
    gateway: Provider[Gateway] = Singleton(
        making.gateway,
        settings,
        generations,
        access,
        queue,
        signals,
        executor,
        run_events,
        catalog,
        clock,
        new_id,
        late_gateway,
        quotas,
        shared,
    )
    embeddings: Provider[EmbeddingService] = Singleton(
        making.embeddings, gateway, embedders, quotas
    )
    keyed_calls: Provider[KeyedCalls] = Singleton(making.keyed_calls, shared, bus, monotonic)
    tool_service: Provider[ToolService] = Singleton(
        making.tool_service,
        gateway,
        catalog,
        all_tools,
        toolbox,
        approval_book,
        validate,
        keyed_calls,
        new_id,
        clock,
        monotonic,
    )
    token_counts: Provider[TokenCounts] = Singleton(making.token_counts, gateway, native)

    # The application.
    supervisor: Provider[Supervisor] = Singleton(Supervisor)
    readiness: Provider[Readiness] = Singleton(
        making.readiness, store, run_events, supervisor, python_agents
    )
    abilities: Provider[Abilities] = Singleton(
        making.abilities, settings, local, sandbox, python_agents
    )
    node_info: Provider[Callable[[], NodeInfo]] = Singleton(
        making.node_info, bus, settings, facts, executor, abilities
    )
    control: Provider[ControlPlane] = Singleton(
        making.control,
        gateway,
        bus,
        shared,
        nodes,
        session_service,
        approvals,
        devices,
        keys,
        tool_service,
        config_file,
        workspaces,
        settings,
        source,
        readiness,
        mcp,
        sandbox,
        python_agents,
        log_ring,
        stop_process,
        facts,
        clock,
        new_id,
    )
    meters: Provider[list[Meter]] = Singleton(making.meters, work_queue, executor, settings, shared)
    transports: Provider[list[Transport]] = Singleton(
        making.transports,
        gateway,
        approvals,
        responses,
        tool_service,
        embeddings,
        token_counts,
        control,
        readiness,
        meters,
        web,
        facts,
        clock,
        monotonic,
        settings,
        find_plugins,
    )
    lifecycle: Provider[Lifecycle] = Singleton(
        making.lifecycle,
        gateway,
        settings,
        lock,
        store,
        executor,
        run_events,
        devices,
        keys,
        key_book,
        quotas,
        approvals,
        responses,
        control,
        models,
        embedders,
        toolbox,
        tool_service,
        prepare,
        python_agents,
        model_server,
        readiness,
        supervisor,
        configure_logging,
        log_bounds,
        reloads,
        source,
        nodes,
        node_info,
        abilities,
        configuration_watch,
    )
