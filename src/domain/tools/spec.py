"""Tools that a model may call: what is offered, what a call gives, and its approval."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from ..messages import ToolCall

BUILT_IN_SOURCE = "builtin"
"""The source of the Gateway's own tools."""
MCP_SOURCE = "mcp"
"""The source of the tools of MCP servers."""

_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Of a code: no two that look alike."""
CODE_PATTERN = rf"[{_LETTERS}]{{4}}(?:-[{_LETTERS}]{{4}}){{2}}"
"""A regular expression for the codes of approvals."""


class Repeat(StrEnum):
    """Whether a tool's call may be made again when it is not known how far it came."""

    SAFE = "safe"
    """It only reads."""
    KEYED = "keyed"
    """The tool gets the call's key and carries out each key once."""
    UNSAFE = "unsafe"


class Effect(StrEnum):
    """What a tool may do outside the conversation."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"
    NETWORK = "network"


_ONLY_READS = frozenset((Effect.READ,))


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as it is offered. `parameters` is a JSON Schema; `source` names its Toolbox."""

    name: str
    description: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    effects: frozenset[Effect] = frozenset(Effect)
    repeat: Repeat = Repeat.UNSAFE
    source: str = ""
    ask: bool = False
    """Calls wait for a person's approval: each, or those of which `ask_if` says so."""
    ask_if: Callable[[ToolCall], bool] | None = None
    parallel: bool = False
    """Calls may run beside other calls although the tool does more than read."""
    strict: bool | None = None
    """Whether the provider holds the model to the schema; None: the provider's default."""

    @property
    def runs_beside_others(self) -> bool:
        """Whether its calls may run at the same time as other calls of a step."""
        return self.parallel or self.effects <= _ONLY_READS

    def asks(self, call: ToolCall) -> bool:
        """Whether this call waits for a person's approval."""
        return self.ask and (self.ask_if is None or self.ask_if(call))


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """A piece of output while the tool runs."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the model gets. `is_error`: the call failed, and the text says why."""

    text: str
    is_error: bool = False


class Decision(StrEnum):
    """What was decided about an Approval."""

    ALLOW = "allow"
    ALLOW_ALWAYS = "allow-always"
    """The call may run, and so may the Agent's later calls of the same tool with the same
    arguments."""
    DENY = "deny"
    EXPIRED = "expired"

    @property
    def allows(self) -> bool:
        """Whether the call may run."""
        return self in (Decision.ALLOW, Decision.ALLOW_ALWAYS)


@dataclass(frozen=True, slots=True)
class Approval:
    """A tool call of a Run that waits for a person. Times are Unix seconds."""

    id: str
    run_id: str
    principal_id: str
    """Who started the Run."""
    call: ToolCall
    created_at: float
    expires_at: float
    agent_id: str = ""
    session_key: str = ""
    decision: Decision | None = None
    decided_by: str = ""
    decided_at: float | None = None
    code: str = ""
    """Decides on the approval in a conversation. It cannot be guessed, as the id may be."""

    @property
    def subject(self) -> str:
        """Names the Agent, the tool and the exact arguments: what ALLOW_ALWAYS is for."""
        named = json.dumps([self.agent_id, self.call.name, _canonical(self.call.arguments)])
        return sha256(named.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class StandingApproval:
    """What ALLOW_ALWAYS has allowed: an Agent's calls of a tool with the same arguments. `id` is
    the `subject` of their approvals."""

    id: str
    agent_id: str
    tool: str
    arguments: str
    granted_by: str
    granted_at: float


def standing_of(approval: Approval, by: str, at: float) -> StandingApproval:
    """What ALLOW_ALWAYS of that approval allows."""
    call = approval.call
    return StandingApproval(approval.subject, approval.agent_id, call.name, call.arguments, by, at)


def new_code() -> str:
    """A code for an Approval, of 60 random bits."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(3))
    return "-".join(groups)


def _canonical(arguments: str) -> str:
    """The same text for arguments that differ in white space or in the order of their keys."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


def approval_id(key: str, call: ToolCall) -> str:
    """The id of the approval of a call, whose key is `key`. Another one for other arguments: a
    model that is called again may choose the same id for a call."""
    named = "\n".join((key, call.name, call.arguments))
    return sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:32]
