"""How much an agent may answer, and how much of that at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...domain.errors import AgentFailed
from ...domain.models import ReasoningDelta, TextDelta
from ...domain.runs import Answered, ToolFinished, ToolProgress, ToolStarted
from .runs import AgentEvent, ApprovalsAsked, begins_tool

MOST_CHARS = 32 * 1024 * 1024
"""Of an answer, with its reasoning and its tool calls; as much as an answer of a model may have."""
PORTION = 64 * 1024
"""Characters of a batch: the event loop does not work on more at once. A longer text is divided."""


class Portions:
    """Divides what a run yields, and counts it."""

    def __init__(self, agent_id: str) -> None:
        self._agent_id = agent_id
        self.left = MOST_CHARS
        """The characters that may still come."""

    def of(self, batch: Sequence[AgentEvent]) -> Iterator[list[AgentEvent]]:
        """The same events in batches of about PORTION characters. Raises AgentFailed."""
        portion: list[AgentEvent] = []
        size = 0
        for event in batch:
            length = _length(event)
            self.left -= 0 if isinstance(event, Answered) else length
            if self.left < 0 or length > MOST_CHARS:
                raise self._exceeded()
            for piece in _divided(event):
                length = _length(piece)
                if portion and size + length > PORTION:
                    yield portion
                    portion, size = [], 0
                portion.append(piece)
                size += length
        if portion:
            yield portion

    def _exceeded(self) -> AgentFailed:
        return AgentFailed(
            f"The answer of the agent `{self._agent_id}` is longer than {MOST_CHARS // 1024**2} "
            "million characters."
        )


def waits_behind(batch: Sequence[AgentEvent]) -> bool:
    """Whether an agent goes on only when these events are stored."""
    return begins_tool(batch) or sum(map(_length, batch)) >= PORTION


def pieces(text: str) -> Iterator[str]:
    """A long text in pieces of PORTION characters."""
    return (text[start : start + PORTION] for start in range(0, len(text), PORTION))


def _divided(event: AgentEvent) -> Iterator[AgentEvent]:
    if isinstance(event, TextDelta) and len(event.text) > PORTION:
        return (TextDelta(piece, event.refusal) for piece in pieces(event.text))
    if isinstance(event, ReasoningDelta) and len(event.text) > PORTION:
        return map(ReasoningDelta, pieces(event.text))
    return iter((event,))


def _length(event: AgentEvent) -> int:
    match event:
        case TextDelta() | ReasoningDelta() | ToolProgress() | ToolFinished():
            return len(event.text)
        case ToolStarted():
            return len(event.arguments)
        case ApprovalsAsked():
            return len(event.state)
        case Answered():
            return sum(len(message.text) for message in event.messages)
    return 0
