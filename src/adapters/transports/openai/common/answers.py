"""A run's complete answer, for responses that do not stream."""

from __future__ import annotations

from dataclasses import dataclass

from .....domain.errors import RunFailed
from .....domain.models import ReasoningDelta, TextDelta
from .....domain.runs import Aborted, Failed, Finished, error_of
from .....domain.services import Events
from ...http.context import RequestContext


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    text: str
    reasoning: str
    finished: Finished


async def collect(events: Events, context: RequestContext) -> Answer:
    """The run's answer, once it is complete. Raises the GatewayError that the run ended with."""
    text: list[str] = []
    reasoning: list[str] = []
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
                case Failed() | Aborted():
                    raise error_of(event)
                case _:
                    pass
    raise RunFailed("The run ended without an end.")
