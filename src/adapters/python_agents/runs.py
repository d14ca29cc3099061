"""What the code of a Python agent is called with, and what it yields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...domain.access import Principal
from ...domain.messages import Image, Message, ToolCall
from ...domain.models import Usage
from ...domain.runs import RUNNER_EVENTS, Answered, RunnerEvent, StepDone, ToolStarted, Waiting
from ...domain.tools import ToolSpec


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a run goes on that has asked for approvals. `state` is the text that it has asked with,
    `decisions` says of each call, by its id, whether it may run, and `reasons` why not."""

    state: str
    decisions: Mapping[str, bool]
    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AgentRun:
    """One run of a Python agent."""

    text: str
    """The text of the newest message of the user."""
    question: tuple[Message, ...]
    """The messages of this request that are new to the session."""
    history: tuple[Message, ...]
    """The stored messages before this request; empty where the framework keeps them."""
    session_key: str
    agent_id: str
    run_id: str
    principal: Principal
    """For whom the run is."""
    params: Mapping[str, object] = field(default_factory=dict)
    """The model parameters of the request, under OpenAI's names."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """The metadata of the request."""
    tools: tuple[ToolSpec, ...] = ()
    """The tools of the client, which it runs itself."""
    tool_choice: str = ""
    """`required`: the model begins with a call of some tool. Otherwise the name of the tool that it
    begins with a call of; empty: as it likes."""
    instructions: str = ""
    """The configured instructions of the agent, then the system messages of the request."""
    framework_memory: bool = False
    """The framework keeps the history, by `session_key`."""
    resumption: Resumption | None = None
    """What was decided, where the run has asked for approvals."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The history and the new messages."""
        return (*self.history, *self.question)

    @property
    def images(self) -> tuple[Image, ...]:
        """The pictures of the newest message."""
        last = self.question[-1].parts if self.question else ()
        return tuple(part for part in last if isinstance(part, Image))


@dataclass(frozen=True, slots=True)
class ApprovalsAsked:
    """The last event of a run that cannot go on before these calls are decided about. `state`: what
    the framework needs to go on, as a text of its own that outlives the process."""

    calls: tuple[ToolCall, ...]
    state: str


AgentEvent = RunnerEvent | ApprovalsAsked | Usage
"""What a Python agent may yield. Usage is added to that of the run."""
AgentEvents = AgentEvent | str | Sequence[AgentEvent | str]
"""A text is a TextDelta."""
YIELDED = (
    *(kind for kind in RUNNER_EVENTS if kind not in (StepDone, Waiting)),
    ApprovalsAsked,
    Usage,
)
"""The types of AgentEvent. Steps are the Gateway's, and approvals the way to wait."""
ENDS = (Answered, ApprovalsAsked)
"""The events that end a run. ClientCalls come before Answered."""


def begins_tool(batch: Sequence[AgentEvent]) -> bool:
    """Whether a tool runs behind these events, which have to be stored before it does."""
    return ToolStarted in map(type, batch)
