"""A run's complete answer, for responses that do not stream."""

from __future__ import annotations

from dataclasses import dataclass

from .....domain.errors import RunFailed
from .....domain.models import ReasoningDelta, TextDelta
from .....domain.runs import (
    DELTAS,
    TERMINAL,
    TOOL_EVENTS,
    Aborted,
    Failed,
    Finished,
    Resumed,
    Started,
    StepDone,
    Waiting,
    consumes,
    error_of,
)
from .....domain.services import Events
from ...http.context import RequestContext


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    text: str
    reasoning: str
    finished: Finished


@consumes(*DELTAS, StepDone, Resumed, *TERMINAL, ignores=(Started, Waiting, *TOOL_EVENTS))
async def collect(events: Events, context: RequestContext) -> Answer:
    """The run's answer, once it is complete. Raises the GatewayError that the run ended with."""
    text: list[str] = []
    reasoning: list[str] = []
    stored = (0, 0)
    """How many pieces of both were said in steps that are stored."""
    async for batch in events:
        context.observe(batch)
        for event in batch.events:
            match event:
                case TextDelta(text=piece):
                    text.append(piece)
                case ReasoningDelta(text=piece):
                    reasoning.append(piece)
                case Finished():
                    return Answer("".join(text), "".join(reasoning), event)
                case StepDone():
                    stored = (len(text), len(reasoning))
                case Resumed(void=void):
                    if void:  # What the earlier attempt said after its last step.
                        del text[stored[0] :], reasoning[stored[1] :]
                case Failed() | Aborted():
                    raise error_of(event)
    raise RunFailed("The events of the run ended before a terminal event.")
