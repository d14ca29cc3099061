"""The runners, and the prompts of agents."""

from __future__ import annotations

from collections.abc import Mapping

from ...adapters.config import Locations
from ...adapters.python_agents import PythonAgents, PythonRunner
from ...adapters.tools import WorkspaceKnowledge
from ...adapters.transports.media import MediaReader
from ...adapters.transports.model_server import ModelServer
from ...domain.execution import COMMAND_RUNNER, ModelRouter, SystemPrompts, TurnLoop
from ...domain.ports import (
    AgentRunner,
    ApprovalBook,
    Clock,
    CurrentSettings,
    KnowledgeSource,
    RunQueue,
    RunSignals,
    Toolbox,
    WebClient,
)
from ...domain.runs import CompileSchema, Validate
from ...domain.services import ActiveRuns, Approvals, CommandRunner, ModelCalls, SessionService
from .. import plugins


def knowledge(locations: Locations) -> KnowledgeSource:
    return WorkspaceKnowledge(str(locations.skills_path))


def system_prompts(knowledge: KnowledgeSource, clock: Clock) -> SystemPrompts:
    return SystemPrompts(knowledge, clock=clock)


def native(
    router: ModelRouter,
    toolbox: Toolbox,
    approval_book: ApprovalBook,
    validate: Validate,
    compile_schema: CompileSchema,
    system_prompts: SystemPrompts,
    clock: Clock,
    monotonic: Clock,
) -> TurnLoop:
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


def model_server(router: ModelRouter, settings: CurrentSettings, web: WebClient) -> ModelServer:
    return ModelServer(ModelCalls(router, settings), MediaReader(web), settings)


def python_agents(find_plugins: plugins.Find, model_server: ModelServer) -> PythonAgents:
    return PythonAgents(find_plugins, model_server)


def python(
    python_agents: PythonAgents,
    approval_book: ApprovalBook,
    compile_schema: CompileSchema,
    clock: Clock,
) -> AgentRunner:
    return PythonRunner(python_agents, approval_book, clock=clock, compile_schema=compile_schema)


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


def runners(
    native: TurnLoop,
    echo: AgentRunner,
    python: AgentRunner,
    commands: AgentRunner,
    find_plugins: plugins.Find,
) -> Mapping[str, AgentRunner]:
    """The runners by name; a new one is one line here and one in plugins.BUILT_IN_RUNNERS."""
    own = {"native": native, "echo": echo, "python": python, COMMAND_RUNNER: commands}
    return plugins.Runners(own, find_plugins)
