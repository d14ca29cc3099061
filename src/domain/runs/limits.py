"""The limits of a Run, and calls that a model repeats, as pure functions of its journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..agents import RunLimits
from ..models import Price, StopReason
from .journal import Journal, Step

WARNED_AFTER = 3
"""The number of equal calls in a row, with equal results, of which the model is warned."""
ENDED_AFTER = 5
"""The number of them that ends the Run."""


@dataclass(frozen=True, slots=True)
class LimitReached:
    """The model has to answer without tools. `what` names the limit: "its limit of 50 steps"."""

    stop: StopReason
    what: str

    @property
    def notice(self) -> str:
        """What the model is sent."""
        return (
            f"[This run has reached {self.what}. No more tools can be called. Answer now in words, "
            "with what is known so far, and say what could not be done.]"
        )

    @property
    def notice_for_format(self) -> str:
        """The same where the answer has a format."""
        return (
            f"[This run has reached {self.what}. No more tools can be called. Answer now in the "
            "required format, with what is known so far.]"
        )


def limit_reached(
    journal: Journal, limits: RunLimits, prices: Mapping[str, Price]
) -> LimitReached | None:
    """The first limit that the steps have reached, or None. `prices` are by `provider/model`."""
    steps = journal.steps
    if limits.seconds is not None and journal.seconds >= limits.seconds:
        return out_of_time(limits.seconds)
    if limits.cost is not None and cost_of(steps, prices) >= limits.cost:
        what = f"its limit of {limits.cost:g} US dollars (maxCost)"
        return LimitReached(StopReason.MAX_COST, what)
    if limits.output_tokens is not None:
        usage = journal.usage
        if usage is not None and usage.output >= limits.output_tokens:
            what = f"its limit of {limits.output_tokens} output tokens (maxOutputTokens)"
            return LimitReached(StopReason.MAX_OUTPUT_TOKENS, what)
    if sum(len(step.calls) for step in steps) >= limits.tool_calls:
        what = f"its limit of {limits.tool_calls} tool calls (maxToolCalls)"
        return LimitReached(StopReason.MAX_TOOL_CALLS, what)
    if limits.own_calls is not None and _own_calls(steps) >= limits.own_calls:
        what = f"the client's limit of {limits.own_calls} tool calls (max_tool_calls)"
        return LimitReached(StopReason.MAX_TOOL_CALLS, what)
    if len(steps) >= limits.steps:
        what = f"its limit of {limits.steps} steps (maxSteps)"
        return LimitReached(StopReason.MAX_STEPS, what)
    if max(repetitions(steps)[-1].values(), default=0) >= ENDED_AFTER:
        what = f"the limit of {ENDED_AFTER} equal calls in a row with the same result"
        return LimitReached(StopReason.REPEATED_CALL, what)
    return None


def out_of_time(seconds: float) -> LimitReached:
    """The limit of time of a Run."""
    what = f"its limit of {seconds:g} seconds (maxSeconds)"
    return LimitReached(StopReason.MAX_SECONDS, what)


def beyond_limit(journal: Journal, limits: RunLimits) -> frozenset[str]:
    """The ids of the last step's calls that the limit of tool calls leaves no room for."""
    *before, last = journal.steps
    room = max(0, limits.tool_calls - sum(len(step.calls) for step in before))
    beyond = frozenset(call.id for call in last.calls[room:])
    if limits.own_calls is None:
        return beyond
    own = [call.id for call in last.calls if call.id not in last.handed]
    return beyond.union(own[max(0, limits.own_calls - _own_calls(before)) :])


def _own_calls(steps: Sequence[Step]) -> int:
    """The number of calls that are not for the client."""
    return sum(len(step.calls) - len(step.handed) for step in steps)


def cost_of(steps: Sequence[Step], prices: Mapping[str, Price]) -> float:
    """US dollars for the model calls of the steps, as far as the prices are known."""
    return sum(
        prices[step.model].of(step.usage.input, step.usage.output, step.usage.cached)
        for step in steps
        if step.usage is not None and step.model in prices
    )


def repetitions(steps: Sequence[Step]) -> list[Mapping[str, int]]:
    """For each step, how often each call was made in a row with the same result, by its id.

    A call is repeated by an equal call in the same step, or in the next one if that makes only
    calls that this one made: a model that makes the same two calls in each step repeats both. With
    a new call beside it, such as a test behind each change, an equal call is no repetition.
    """
    counts: list[Mapping[str, int]] = []
    before: Mapping[tuple[str, str, str], int] = {}
    for step in steps:
        texts = {result.tool_call_id: result.text for result in step.results}
        keys = {
            call.id: (call.name, call.arguments, texts[call.id])
            for call in step.calls
            if call.id in texts
        }
        if not before.keys() >= set(keys.values()):
            before = {}
        now: dict[tuple[str, str, str], int] = {}
        by_id: dict[str, int] = {}
        for call_id, key in keys.items():
            now[key] = by_id[call_id] = now.get(key, before.get(key, 0)) + 1
        counts.append(by_id)
        before = now
    return counts
