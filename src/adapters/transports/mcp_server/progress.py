"""What a client is told of a run while it waits for the result of its tool call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ....domain.models import ReasoningDelta, TextDelta
from ....domain.ports import Clock
from ....domain.runs import (
    CONTEXT_EVENTS,
    TERMINAL,
    ClientCalls,
    EventBatch,
    Resumed,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    consumes,
)
from ....domain.services import Events
from ....domain.text import escape_line

Report = Callable[[int, str], Awaitable[None]]
"""Sends a number that grows, and a text."""

_SHOWN = 500
"""Characters of the text so far."""
_EVERY = 0.2
"""Seconds between two reports of text."""


class ReportedEvents:
    """The events of a run, each batch reported before it is passed on. A client that lags gets
    fewer reports: what it has not taken waits in the run's log."""

    def __init__(self, events: Events, report: Report, clock: Clock) -> None:
        self._events = events
        self._report = report
        self._clock = clock
        self._text = ""
        """The end of the text so far."""
        self._stored = ""
        """The same when the last step was stored."""
        self._next = 0.0
        self._names: dict[str, str] = {}

    def __aiter__(self) -> ReportedEvents:
        return self

    async def __anext__(self) -> EventBatch:
        batch = await anext(self._events)
        lines, text = self._read(batch)
        if text and not lines and self._clock() >= self._next:
            lines = [self._text]
        if lines:
            self._next = self._clock() + _EVERY
            await self._report(batch.last, "\n".join(lines))
        return batch

    @consumes(
        TextDelta,
        ToolStarted,
        ToolFinished,
        StepDone,
        Resumed,
        Waiting,
        ignores=(Started, ReasoningDelta, ToolProgress, ClientCalls, *CONTEXT_EVENTS, *TERMINAL),
    )
    def _read(self, batch: EventBatch) -> tuple[list[str], bool]:
        """Lines on tools, and whether there is more text."""
        lines: list[str] = []
        more = False
        for event in batch.events:
            match event:
                case TextDelta(text=piece):
                    self._text = (self._text + piece)[-_SHOWN:]
                    more = True
                case ToolStarted(call_id=call, name=name):
                    self._names[call] = escape_line(name)
                    lines.append(f"The tool {self._names[call]} runs.")
                case ToolFinished(call_id=call, is_error=is_error):
                    name = self._names.pop(call, "")
                    lines.append(f"The tool {name} {'failed' if is_error else 'has finished'}.")
                case StepDone():
                    self._stored = self._text
                case Resumed(void=void):
                    if void:
                        self._text = self._stored
                case Waiting():
                    lines.append("The run waits for an approval or a signal.")
        return lines, more
