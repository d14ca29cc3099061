"""Checks of a request that strict providers with OpenAI's API make.

`strict(behaviour)` answers a request that they would refuse with 400 and the reason, and any other
request with the behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .behaviours import Behaviour, Exchange, fail


def strict(then: Behaviour) -> Behaviour:
    """Refuse with 400 what Anthropic, Mistral and Perplexity refuse, or go on with `then`."""

    async def behave(exchange: Exchange) -> None:
        problem = fault(exchange.request.json["messages"])
        await (then if problem is None else fail(400, problem))(exchange)

    return behave


def fault(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """Why they would refuse the messages; None: they accept them."""
    calls: list[str] = []
    last = "assistant"
    for message in messages:
        role = message["role"]
        if role == "tool":
            if message["tool_call_id"] not in calls:
                return "a result without its call"
            calls.remove(message["tool_call_id"])
            last = "user"
            continue
        if calls:
            return "a call without its result"
        calls = [call["id"] for call in message.get("tool_calls", ())]
        if not (message["content"] or calls):
            return "all messages must have non-empty content"
        if role == last:
            return "roles must alternate"
        last = role
    return "a call without its result" if calls else None
