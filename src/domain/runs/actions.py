"""What comes next in a Run, as a pure function of its journal.

Whatever goes on with a Run asks the same function: the loop after a model call, an attempt after
the death of a process, and a Run that waited for a decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..agents import RunLimits
from ..messages import Message, ToolCall
from ..models import Price, StopReason
from ..tools import Repeat
from .journal import INTERRUPTED, Journal, Step, failed_result
from .limits import LimitReached, beyond_limit, limit_reached

NO_PRICES: Mapping[str, Price] = {}


@dataclass(frozen=True, slots=True)
class CallModel:
    """Call a model with the question and the steps."""


@dataclass(frozen=True, slots=True)
class RunCalls:
    """Run these tool calls; they were not begun, or may be made again."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class RecordResults:
    """Add these results to the last step, without running anything."""

    results: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class AwaitDecisions:
    """Nothing can go on before these calls are decided."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class HandOut:
    """Hand these calls to the client, which sends their results with another request."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is complete."""

    answer: Message


_CALL_MODEL = CallModel()
Action = CallModel | RunCalls | RecordResults | AwaitDecisions | HandOut | Finish | LimitReached


def next_action(
    journal: Journal, limits: RunLimits, prices: Mapping[str, Price] = NO_PRICES
) -> Action:
    """What comes next in a Run. `prices` are by `provider/model`.

    An open call that was begun and is unsafe gets the result INTERRUPTED, and the model decides.
    Calls that need no decision run before the Run waits for the others; those of the client's tools
    are handed out when all others have their results.
    """
    if journal.answer is not None:
        return Finish(journal.answer)
    if not journal.steps:
        return _CALL_MODEL
    last = journal.steps[-1]
    open_calls = last.open_calls
    limit = limit_reached(journal, limits, prices)
    if not open_calls:
        return _CALL_MODEL if limit is None else limit
    known = _without_running(journal, last, limits, limit)
    if known:
        return RecordResults(known)
    own = tuple(call for call in open_calls if call.id not in last.handed)
    ready = tuple(call for call in own if call.id not in last.undecided)
    if ready:
        return RunCalls(ready)
    return AwaitDecisions(own) if own else HandOut(open_calls)


def _without_running(
    journal: Journal, last: Step, limits: RunLimits, limit: LimitReached | None
) -> tuple[Message, ...]:
    """The results of the open calls that are not run (again)."""
    beyond = beyond_limit(journal, limits)
    out_of_time = limit is not None and limit.stop is StopReason.MAX_SECONDS
    results = []
    for call in last.open_calls:
        if call.id in last.begun and (out_of_time or last.begun[call.id] is Repeat.UNSAFE):
            results.append(failed_result(call, INTERRUPTED))
        elif limit is not None and (out_of_time or call.id in beyond):
            results.append(failed_result(call, f"not run: the run has reached {limit.what}"))
    return tuple(results)
