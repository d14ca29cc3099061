"""What this process makes of a RunSpec in order to execute it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..agents import Agent
from ..immutable import immutable
from ..runs import RunSpec
from ..sessions import SessionSettingsMap, applied_to
from ..settings import Settings
from ..tools import ToolPolicy

NOTHING_CHOSEN: SessionSettingsMap = {}


@immutable(frozen=True, slots=True)
class Execution:
    """A RunSpec with its Agent: models, secrets and the time limit that holds."""

    spec: RunSpec
    agent: Agent


def execution_of(
    spec: RunSpec, settings: Settings, chosen: Mapping[str, str | bool | int] = NOTHING_CHOSEN
) -> Execution:
    """The Execution with the Settings of the Run's generation, and with what was `chosen` for its
    Session. Raises UnknownAgent."""
    agent = settings.agents.find(spec.agent_id, param="agentId")
    if spec.timeout is not None and (agent.timeout is None or spec.timeout < agent.timeout):
        agent = replace(agent, timeout=spec.timeout)
    if spec.max_tool_calls is not None:
        agent = replace(agent, limits=replace(agent.limits, own_calls=spec.max_tool_calls))
    if spec.thinking is not None:
        chosen = {**chosen, "thinkingLevel": spec.thinking}
    if spec.side_task:
        models = agent.side_task_models or agent.models
        agent = replace(agent, models=models, instructions="", tools=ToolPolicy())
    if spec.chosen_model:
        chosen = {**chosen, "model": spec.chosen_model}
    if chosen:
        agent = applied_to(agent, chosen, settings.models)
    return Execution(spec, agent)
