"""The wiring: one function for each part of the container, by subject.

Here, the type checker compares what a part needs with what is passed to it. The container calls
each function with the providers that have the names of its parameters; tests/app/test_container.py
compares their types.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from ..adapters.config import ConfigEditor, ConfigSource, Inputs, Locations, Overrides, locate
from ..adapters.mcp import McpToolbox
from ..adapters.persistence.common import Bounds, NoCatalog
from ..adapters.persistence.memory import (
    MemoryApprovals,
    MemoryKeys,
    MemoryLimits,
    MemoryRunEvents,
    MemoryStore,
)
from ..adapters.persistence.queue import Lanes, LocalQueue
from ..adapters.persistence.sqlite.keys import KEYS_FILE, SqliteKeys
from ..adapters.persistence.sqlite.runs import SqliteRunEvents
from ..adapters.persistence.sqlite.sessions import SqliteApprovals, SqliteStore
from ..adapters.providers.local.client import LocalModels
from ..adapters.sandbox import Bubblewrap
from ..adapters.system.files import (
    DeviceFile,
    MemoryDeviceBook,
    StateLock,
    TokenFile,
    WorkspaceFiles,
)
from ..adapters.system.logging import LogBounds, LogRing, configure
from ..adapters.system.signatures import verify_signature
from ..adapters.tools import (
    BuiltinTools,
    CombinedToolbox,
    Fetcher,
    PolicyToolbox,
    SessionTools,
    WorkspaceKnowledge,
)
from ..adapters.transports import RouteTable, Transport, health, openapi
from ..adapters.transports import approvals as approvals_http
from ..adapters.transports import runs as runs_http
from ..adapters.transports import tool_calls as tool_calls_http
from ..adapters.transports.control.dependencies import Dependencies
from ..adapters.transports.control.handshake import Facts
from ..adapters.transports.control.plane import ControlPlane
from ..adapters.transports.openai import chat as openai_chat
from ..adapters.transports.openai import completions as openai_completions
from ..domain.execution import (
    COMMAND_RUNNER,
    Compactor,
    Executor,
    Generations,
    ModelRouter,
    SystemPrompts,
    TurnLoop,
)
from ..domain.models import Cooldowns
from ..domain.ports import (
    AgentRunner,
    ApprovalBook,
    Clock,
    ConfigFile,
    CurrentSettings,
    DeviceBook,
    KeyBook,
    KnowledgeSource,
    Limits,
    ModelClient,
    NewId,
    RunEvents,
    RunQueue,
    RunSignals,
    Sandbox,
    SessionCatalog,
    SessionStore,
    Toolbox,
    ToolContext,
    WebClient,
    Workspaces,
)
from ..domain.runs import CompileSchema, Validate
from ..domain.services import (
    Access,
    ActiveRuns,
    AgentSessions,
    Approvals,
    CommandRunner,
    Devices,
    Gateway,
    Keys,
    Quotas,
    SessionService,
    ToolService,
)
from ..domain.tools import BUILT_IN_SOURCE, MCP_SOURCE
from . import plugins
from .late import Late
from .lifecycle import Lifecycle, Lock, Prepare
from .readiness import Readiness
from .reloads import ConfigureLogging, Reloads
from .supervisor import Supervisor
from .version import version

# The process.


def configure_logging(
    overrides: Overrides, log_ring: LogRing, log_bounds: LogBounds
) -> ConfigureLogging:
    return partial(configure, verbose=overrides.verbose, ring=log_ring, bounds=log_bounds)


def facts(locations: Locations, clock: Clock) -> Facts:
    return Facts(
        version=version(),
        host=socket.gethostname(),
        config_path=str(locations.config_path),
        state_dir=str(locations.state_dir),
        started_at=clock(),
    )


def log_bounds(monotonic: Clock) -> LogBounds:
    return LogBounds(monotonic)


def stop_process() -> None:
    """Send this process the signal that a supervisor would send."""
    os.kill(os.getpid(), signal.SIGTERM)


# Configuration.


def config_file(inputs: Inputs, locations: Locations) -> ConfigFile:
    return ConfigEditor(inputs, locations)


def generated_token(state_dir: Path) -> str:
    return TokenFile(state_dir).read_or_create()


def inputs(
    env: Mapping[str, str], home: Path | None, overrides: Overrides, find_plugins: plugins.Find
) -> Inputs:
    return Inputs(
        env=env,
        home=home,
        overrides=overrides,
        generated_token=generated_token,
        runners=plugins.runner_names(find_plugins),
    )


def locations(env: Mapping[str, str], overrides: Overrides, home: Path | None) -> Locations:
    return locate(env, overrides, home)


def settings(source: ConfigSource) -> CurrentSettings:
    return source.current


def source(inputs: Inputs, token_file: TokenFile, reloads: Reloads) -> ConfigSource:
    return ConfigSource.open(inputs, on_event=reloads, watched=[token_file.path])


def token_file(locations: Locations) -> TokenFile:
    return TokenFile(locations.state_dir)


# Models and runners.


def cooldowns(monotonic: Clock) -> Cooldowns:
    return Cooldowns(monotonic)


def local(openai: ModelClient, locations: Locations) -> LocalModels:
    return LocalModels(inner=openai, models_dir=locations.state_dir / "models")


def knowledge(locations: Locations) -> KnowledgeSource:
    return WorkspaceKnowledge(str(locations.skills_path))


def models(
    openai: ModelClient, anthropic: ModelClient, local: LocalModels, scripted: ModelClient
) -> Mapping[str, ModelClient]:
    """The clients by the names of their APIs; a new one is one line here."""
    return {
        "openai-completions": openai,
        "anthropic-messages": anthropic,
        "local": local,
        "scripted": scripted,
    }


def native(
    router: ModelRouter,
    toolbox: Toolbox,
    approval_book: ApprovalBook,
    validate: Validate,
    compile_schema: CompileSchema,
    system_prompts: SystemPrompts,
    clock: Clock,
    monotonic: Clock,
) -> AgentRunner:
    return TurnLoop(
        router,
        toolbox,
        approval_book,
        clock=clock,
        monotonic=monotonic,
        prompts=system_prompts,
        validate=validate,
        compile_schema=compile_schema,
    )


def router(models: Mapping[str, ModelClient], cooldowns: Cooldowns) -> ModelRouter:
    return ModelRouter(clients=models, cooldowns=cooldowns)


def prepare(local: LocalModels) -> Mapping[str, Prepare]:
    """How models are made ready before their first request, by the names of their APIs."""
    return {"local": local.prepare}


def runners(
    native: AgentRunner, echo: AgentRunner, commands: AgentRunner, find_plugins: plugins.Find
) -> Mapping[str, AgentRunner]:
    """The runners by name; a new one is one line here and one in plugins.BUILT_IN_RUNNERS."""
    return plugins.Runners({"native": native, "echo": echo, COMMAND_RUNNER: commands}, find_plugins)


def system_prompts(knowledge: KnowledgeSource, clock: Clock) -> SystemPrompts:
    return SystemPrompts(knowledge, clock=clock)


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


# Storage.


def catalog(store: SessionStore) -> SessionCatalog:
    """The store itself, where it implements both ports."""
    return store if isinstance(store, SessionCatalog) else NoCatalog()


def device_book(settings: CurrentSettings, locations: Locations) -> DeviceBook:
    if settings().store.memory:
        return MemoryDeviceBook()
    return DeviceFile(locations.state_dir / "devices.json")


def key_book(settings: CurrentSettings, locations: Locations) -> KeyBook:
    if settings().store.memory:
        return MemoryKeys()
    return SqliteKeys(locations.state_dir / KEYS_FILE)


def lock(locations: Locations, settings: CurrentSettings) -> Lock:
    chosen = settings().store
    path = Path(chosen.path)
    # The database may be a link into a directory that another state directory links to as well.
    directories = () if chosen.memory or not chosen.path else (path.resolve().parent,)
    return StateLock(locations.state_dir, store_dirs=directories)


def run_events(run_log: MemoryRunEvents | SqliteRunEvents) -> RunEvents:
    return run_log


def run_log(
    settings: CurrentSettings, clock: Clock, monotonic: Clock
) -> MemoryRunEvents | SqliteRunEvents:
    """Beside the sessions; in memory where those are, too."""
    chosen = settings()
    if chosen.store.memory:
        # How long, and how many, idempotency keys are remembered.
        bounds = Bounds(finished=1_000, seconds=300.0)
        return MemoryRunEvents(clock=clock, bounds=bounds, steady=monotonic)
    return SqliteRunEvents(
        Path(chosen.store.path).with_name("runs.sqlite3"),
        clock=clock,
        steady=monotonic,
        keep_seconds=chosen.runs.keep_seconds,
        keep_bytes=chosen.runs.keep_bytes,
    )


def store(settings: CurrentSettings, clock: Clock, monotonic: Clock) -> SessionStore:
    chosen = settings().store
    if chosen.memory:
        return MemoryStore(steady=monotonic)
    return SqliteStore(chosen.path, clock=clock, steady=monotonic)


def stored_approvals(store: SessionStore) -> ApprovalBook:
    """In the file of the sessions, where that is the SQLite store's."""
    return SqliteApprovals(store) if isinstance(store, SqliteStore) else MemoryApprovals()


def workspaces(locations: Locations) -> Workspaces:
    return WorkspaceFiles(locations.state_dir)


# The domain.


def access(
    settings: CurrentSettings,
    limits: Limits,
    devices: Devices,
    keys: Keys,
    find_plugins: plugins.Find,
) -> Access:
    named = plugins.authenticators(settings().authenticators, find_plugins)
    return Access(settings=settings, limits=limits, devices=devices, keys=keys, plugins=named)


def agent_sessions(
    late_gateway: Late[Gateway],
    session_service: SessionService,
    catalog: SessionCatalog,
    queue: RunQueue,
    run_events: RunEvents,
    settings: CurrentSettings,
) -> AgentSessions:
    return AgentSessions(
        gateway=late_gateway,
        session_service=session_service,
        catalog=catalog,
        queue=queue,
        run_events=run_events,
        settings=settings,
    )


def approval_book(approvals: Approvals) -> ApprovalBook:
    """The book that runners request approvals with, so that clients are informed of them."""
    return approvals.book


def approvals(
    stored_approvals: ApprovalBook,
    queue: RunQueue,
    signals: RunSignals,
    run_events: RunEvents,
    clock: Clock,
) -> Approvals:
    return Approvals(
        book=stored_approvals, queue=queue, signals=signals, run_events=run_events, clock=clock
    )


def commands(
    settings: CurrentSettings,
    session_service: SessionService,
    queue: RunQueue,
    signals: RunSignals,
    approvals: Approvals,
    toolbox: Toolbox,
) -> AgentRunner:
    return CommandRunner(
        settings=settings,
        session_service=session_service,
        active_runs=ActiveRuns(queue, signals),
        approvals=approvals,
        toolbox=toolbox,
    )


def devices(device_book: DeviceBook, clock: Clock) -> Devices:
    return Devices(book=device_book, clock=clock, verify=verify_signature)


def executor(
    runners: Mapping[str, AgentRunner],
    store: SessionStore,
    catalog: SessionCatalog,
    local_queue: LocalQueue,
    run_events: RunEvents,
    settings: CurrentSettings,
    generations: Generations,
    clock: Clock,
    new_id: NewId,
    quotas: Quotas,
) -> Executor:
    return Executor(
        owner=new_id(),  # Of this process: an earlier process had another name.
        runners=runners,
        store=store,
        catalog=catalog,
        queue=local_queue,
        signals=local_queue,
        run_events=run_events,
        settings=settings,
        generations=generations,
        clock=clock,
        new_id=new_id,
        lease=local_queue.lease,
        on_stop=quotas.stopped,
    )


def gateway(
    settings: CurrentSettings,
    generations: Generations,
    access: Access,
    queue: RunQueue,
    signals: RunSignals,
    executor: Executor,
    run_events: RunEvents,
    catalog: SessionCatalog,
    clock: Clock,
    new_id: NewId,
    late_gateway: Late[Gateway],
    quotas: Quotas,
) -> Gateway:
    gateway = Gateway(
        settings=settings,
        generations=generations,
        access=access,
        queue=queue,
        signals=signals,
        executor=executor,
        run_events=run_events,
        catalog=catalog,
        clock=clock,
        new_id=new_id,
        quotas=quotas,
    )
    late_gateway.bind(gateway)
    return gateway


def generations(settings: CurrentSettings) -> Generations:
    return Generations(settings)


def keys(key_book: KeyBook, settings: CurrentSettings, clock: Clock) -> Keys:
    return Keys(book=key_book, settings=settings, clock=clock)


def lanes(settings: CurrentSettings) -> Lanes:
    return Lanes(lambda: settings().lanes)


def limits(monotonic: Clock) -> Limits:
    return MemoryLimits(monotonic)


def local_queue(
    run_log: MemoryRunEvents | SqliteRunEvents, lanes: Lanes, clock: Clock, monotonic: Clock
) -> LocalQueue:
    return LocalQueue(rows=run_log, lanes=lanes, clock=clock, steady=monotonic)


def queue(local_queue: LocalQueue) -> RunQueue:
    return local_queue


def quotas(
    keys: Keys,
    key_book: KeyBook,
    run_events: RunEvents,
    settings: CurrentSettings,
    clock: Clock,
    monotonic: Clock,
) -> Quotas:
    return Quotas(
        keys=keys,
        book=key_book,
        run_events=run_events,
        settings=settings,
        clock=clock,
        monotonic=monotonic,
    )


def session_service(
    settings: CurrentSettings,
    store: SessionStore,
    catalog: SessionCatalog,
    queue: RunQueue,
    router: ModelRouter,
    clock: Clock,
    new_id: NewId,
) -> SessionService:
    return SessionService(
        settings=settings,
        store=store,
        catalog=catalog,
        queue=queue,
        compactor=Compactor(router, clock=clock),
        clock=clock,
        new_id=new_id,
    )


def signals(local_queue: LocalQueue) -> RunSignals:
    return local_queue


def tool_service(
    gateway: Gateway,
    catalog: SessionCatalog,
    all_tools: Toolbox,
    toolbox: Toolbox,
    approval_book: ApprovalBook,
    validate: Validate,
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
        new_id=new_id,
        clock=clock,
        monotonic=monotonic,
    )


# The application.


def control(
    gateway: Gateway,
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
            store="memory" if store.memory else store.path,
            clock=clock,
            new_id=new_id,
        )
    )


def lifecycle(
    gateway: Gateway,
    settings: CurrentSettings,
    lock: Lock,
    store: SessionStore,
    executor: Executor,
    run_events: RunEvents,
    devices: Devices,
    keys: Keys,
    key_book: KeyBook,
    quotas: Quotas,
    approvals: Approvals,
    control: ControlPlane,
    models: Mapping[str, ModelClient],
    toolbox: Toolbox,
    tool_service: ToolService,
    prepare: Mapping[str, Prepare],
    readiness: Readiness,
    supervisor: Supervisor,
    configure_logging: ConfigureLogging,
    log_bounds: LogBounds,
    reloads: Reloads,
    source: ConfigSource,
) -> Lifecycle:
    return Lifecycle(
        gateway=gateway,
        settings=settings,
        lock=lock,
        store=store,
        executor=executor,
        run_events=run_events,
        devices=devices,
        keys=keys,
        key_book=key_book,
        quotas=quotas,
        approvals=approvals,
        control=control,
        models=models,
        toolbox=toolbox,
        tools=tool_service,
        prepare=prepare,
        readiness=readiness,
        supervisor=supervisor,
        configure_logging=configure_logging,
        summarise_log=log_bounds.summarise,
        reloads=reloads,
        watch=source.watch,
    )


def readiness(store: SessionStore, run_events: RunEvents, supervisor: Supervisor) -> Readiness:
    return Readiness(store=store, run_events=run_events, supervisor=supervisor)


def transports(
    gateway: Gateway,
    approvals: Approvals,
    tool_service: ToolService,
    control: ControlPlane,
    readiness: Readiness,
    web: WebClient,
    clock: Clock,
    settings: CurrentSettings,
    find_plugins: plugins.Find,
) -> list[Transport]:
    every: list[Transport] = []
    own = [
        openai_chat.transport(gateway, approvals, web, started_at=clock()),
        openai_completions.transport(gateway, approvals),
        runs_http.transport(gateway),
        approvals_http.transport(approvals),
        tool_calls_http.transport(tool_service),
        health.transport(readiness.check, readiness.degraded),
        openapi.transport(lambda: RouteTable(every)),
        control.transport(),
    ]
    every += plugins.with_transports(own, gateway, settings().transports, find_plugins)
    return every
