"""Agents that people have written in Python: plain functions, and agents of frameworks."""

from .agents import PythonAgents, PythonAgentState, Status
from .errors import TargetInvalid
from .inspection import Inspection, inspected
from .models import GatewayModel, ModelAccess, model
from .recognition import GROUP, PLAIN, Framework
from .runner import PythonRunner
from .runs import AgentEvent, AgentEvents, AgentRun, ApprovalsAsked, Resumption

__all__ = [
    "GROUP",
    "PLAIN",
    "AgentEvent",
    "AgentEvents",
    "AgentRun",
    "ApprovalsAsked",
    "Framework",
    "GatewayModel",
    "Inspection",
    "ModelAccess",
    "PythonAgentState",
    "PythonAgents",
    "PythonRunner",
    "Resumption",
    "Status",
    "TargetInvalid",
    "inspected",
    "model",
]
