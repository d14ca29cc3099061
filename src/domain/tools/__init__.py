"""Tools that a model may call: what is offered, what a call gives, its approval, and the policy."""

from .commands import check_pattern
from .names import GROUP_NAMES, PROFILES, Names
from .policy import (
    SUBAGENTS_DENY,
    Ask,
    ExecRules,
    Layer,
    Rule,
    Ruling,
    Security,
    ToolPolicy,
    ToolRules,
    Verdict,
    effective,
)
from .spec import (
    BUILT_IN_SOURCE,
    MCP_SOURCE,
    Approval,
    Decision,
    Effect,
    Repeat,
    ToolOutput,
    ToolResult,
    ToolSpec,
    approval_id,
)

__all__ = [
    "BUILT_IN_SOURCE",
    "GROUP_NAMES",
    "MCP_SOURCE",
    "PROFILES",
    "SUBAGENTS_DENY",
    "Approval",
    "Ask",
    "Decision",
    "Effect",
    "ExecRules",
    "Layer",
    "Names",
    "Repeat",
    "Rule",
    "Ruling",
    "Security",
    "ToolOutput",
    "ToolPolicy",
    "ToolResult",
    "ToolRules",
    "ToolSpec",
    "Verdict",
    "approval_id",
    "check_pattern",
    "effective",
]
