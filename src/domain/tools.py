"""Tools that a model may call: what is offered, what a call gives, and its approval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .messages import ToolCall


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
    """Each call waits for a person's approval."""
    parallel: bool = False
    """Calls may run beside other calls although the tool does more than read."""

    @property
    def runs_beside_others(self) -> bool:
        """Whether its calls may run at the same time as other calls of a step."""
        return self.parallel or self.effects <= _ONLY_READS


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
    DENY = "deny"
    EXPIRED = "expired"


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
