"""Sums of tokens and costs, in the groups of usage reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ......domain.services import Gateway
from ......domain.sessions import PeriodUsage
from .days import Days


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums up the usage of turns. `days`: the periods."""

    gateway: Gateway
    days: Days

    def totals(self, used: Iterable[PeriodUsage]) -> dict[str, Any]:
        """Tokens and US dollars. Turns whose model has no price are counted separately."""
        tokens = {"turns": 0, "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}
        costs = {"totalCost": 0.0, "inputCost": 0.0, "outputCost": 0.0, "cacheReadCost": 0.0}
        unpriced = 0
        for usage in used:
            tokens["turns"] += usage.turns
            tokens["input"] += usage.input
            tokens["output"] += usage.output
            tokens["cacheRead"] += usage.cached
            target = self.gateway.settings.models.get(usage.model)
            if target is None or not target.price.known:
                unpriced += usage.turns
                continue
            price = target.price
            costs["totalCost"] += price.of(usage.input, usage.output, usage.cached)
            costs["inputCost"] += price.of(max(0, usage.input - usage.cached), 0, 0)
            costs["cacheReadCost"] += price.of(usage.cached, 0, usage.cached)
            costs["outputCost"] += price.of(0, usage.output, 0)
        return {
            **tokens,
            "totalTokens": tokens["input"] + tokens["output"],
            **{name: round(cost, 6) for name, cost in costs.items()},
            "cacheWriteCost": 0.0,
            "missingCostEntries": unpriced,
        }

    def daily(self, used: Iterable[PeriodUsage]) -> list[dict[str, Any]]:
        """The totals of each day with usage, oldest first."""
        groups = grouped(used, lambda usage: usage.period)
        return [{"date": self.days.name(day), **self.totals(groups[day])} for day in sorted(groups)]

    def aggregates(self, used: Iterable[PeriodUsage]) -> dict[str, Any]:
        """Totals by model, provider, agent and day. A turn counts as one user message; there are no
        tool calls."""
        used = tuple(used)
        by_model = grouped(used, lambda usage: usage.model)
        by_provider = grouped(used, lambda usage: usage.model.partition("/")[0])
        by_agent = grouped(used, lambda usage: usage.agent_id)
        return {
            "messages": messages(used),
            "tools": {"totalCalls": 0, "uniqueTools": 0, "tools": []},
            "byModel": [
                {**_model(model), "count": _turns(group), "totals": self.totals(group)}
                for model, group in by_model.items()
            ],
            "byProvider": [
                {"provider": name, "count": _turns(group), "totals": self.totals(group)}
                for name, group in by_provider.items()
            ],
            "byAgent": [
                {"agentId": name, "totals": self.totals(group)} for name, group in by_agent.items()
            ],
            "byChannel": [],
            "byCreator": [],
            "costDaily": self.daily(used),
            "daily": [self._day(day, group) for day, group in self._by_day(used)],
            "modelDaily": [
                self._model_of_day(day, model, models)
                for day, group in self._by_day(used)
                for model, models in grouped(group, lambda usage: usage.model).items()
            ],
        }

    def _by_day(self, used: Iterable[PeriodUsage]) -> list[tuple[int, list[PeriodUsage]]]:
        return sorted(grouped(used, lambda usage: usage.period).items())

    def _day(self, day: int, used: list[PeriodUsage]) -> dict[str, Any]:
        totals = self.totals(used)
        return {
            "date": self.days.name(day),
            "tokens": totals["totalTokens"],
            "cost": totals["totalCost"],
            "messages": sum(usage.messages for usage in used),
            "toolCalls": 0,
            "errors": 0,
        }

    def _model_of_day(self, day: int, model: str, used: list[PeriodUsage]) -> dict[str, Any]:
        totals = self.totals(used)
        return {
            "date": self.days.name(day),
            **_model(model),
            "tokens": totals["totalTokens"],
            "cost": totals["totalCost"],
            "count": _turns(used),
        }


def messages(used: Iterable[PeriodUsage]) -> dict[str, int]:
    """How many messages the turns have; each has one of the user's at least."""
    used = tuple(used)
    total, user = sum(usage.messages for usage in used), _turns(used)
    return {
        "total": total,
        "user": user,
        "assistant": max(0, total - user),
        "toolCalls": 0,
        "toolResults": 0,
        "errors": 0,
    }


def grouped(
    used: Iterable[PeriodUsage], by: Callable[[PeriodUsage], Any]
) -> dict[Any, list[PeriodUsage]]:
    """Group by the key `by`, in the order of its first occurrence."""
    groups: dict[Any, list[PeriodUsage]] = {}
    for usage in used:
        groups.setdefault(by(usage), []).append(usage)
    return groups


def _turns(used: Iterable[PeriodUsage]) -> int:
    return sum(usage.turns for usage in used)


def _model(ref: str) -> dict[str, str]:
    provider, _, model = ref.partition("/")
    return {"provider": provider, "model": model}
