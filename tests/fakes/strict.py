"""A model that refuses what strict providers refuse, and writes summaries when it is asked to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.messages import Message, Role, ToolCall
from opensoul.domain.models import (
    ModelEvent,
    ModelFinished,
    ModelRequest,
    StopReason,
    TextDelta,
    Usage,
)
from opensoul.domain.sessions import estimate_all
from tests.fakes.domain import Gate


def fault(messages: Sequence[Message]) -> str | None:
    """Why a strict provider refuses the conversation; None where it does not."""
    awaited: list[str] = []
    last = Role.ASSISTANT
    for message in messages:
        if message.role is Role.SYSTEM:
            continue
        if message.role is Role.TOOL:
            if message.tool_call_id not in awaited:
                return "a result without its call"
            awaited.remove(message.tool_call_id)
            last = Role.USER
            continue
        if awaited:
            return "a call without its result"
        awaited = [part.id for part in message.parts if isinstance(part, ToolCall)]
        if not message.text.strip() and not awaited:
            return "a message without content"
        if message.role is last:
            return "roles must alternate"
        last = message.role
    if awaited:
        return "a call without its result"
    return "the last message must be a user's" if last is Role.ASSISTANT else None


Answer = Callable[[ModelRequest], str | ModelFailed]


@dataclass
class StrictModel:
    """A ModelClient. `answer` and `summary`: what it says, or the failure of the call. `window`:
    requests of the conversation with more tokens are refused as too long. `gate`: where summaries
    wait."""

    answer: Answer = lambda request: f"I heard {len(request.messages)} messages."
    summary: Answer = lambda request: "They talked about numbers."
    window: int = 1_000_000
    gate: Gate | None = None
    requests: list[ModelRequest] = field(default_factory=list)
    """Those of the conversation."""
    summaries: list[ModelRequest] = field(default_factory=list)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        wants_summary = request.messages[0].text.startswith("You write the summary")
        (self.summaries if wants_summary else self.requests).append(request)
        if wants_summary and self.gate is not None:
            await self.gate.pass_through()
        if problem := fault(request.messages):
            raise ModelFailed(FailureKind.BAD_REQUEST, problem)
        if not wants_summary and estimate_all(request.messages) > self.window:
            raise ModelFailed(FailureKind.CONTEXT_TOO_LONG, "too long")
        text = (self.summary if wants_summary else self.answer)(request)
        if isinstance(text, ModelFailed):
            raise text
        yield [TextDelta(text)] if text else []
        yield [ModelFinished(StopReason.STOP, Usage(10, 5))]

    async def close(self) -> None:
        """There is nothing to release."""
