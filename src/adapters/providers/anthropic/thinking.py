"""How much a model thinks: OpenAI's `reasoning_effort` in terms of the Messages API.

Models up to Claude 4.5, and other vendors' models, get a budget of tokens. Later models decide
themselves how much they think and refuse a budget; they get an effort.
https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking
"""

from __future__ import annotations

import re

from ..http import FailureFactory

_BUDGETS = {
    "none": 0,
    "minimal": 1_024,
    "low": 4_096,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 32_768,
}
_LEAST_BUDGET = 1_024
"""The API refuses smaller ones."""
_EFFORTS = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}
"""Those with another name in the API."""
_MODEL = re.compile(r"claude-(?:opus|sonnet|haiku|fable|mythos)-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_ADAPTIVE = (4, 6)
_MORE_EFFORTS = (4, 7)
"""From here on there is the effort `xhigh`, and reasoning is left out unless requested."""


def thinking(
    model: str, effort: str, max_tokens: int, failures: FailureFactory
) -> dict[str, object]:
    """The fields of the request. Raises ModelFailed for an unknown effort."""
    if effort not in _BUDGETS:
        known = ", ".join(_BUDGETS)
        raise failures.unsendable(
            f"The reasoning effort {effort[:50]!r} is unknown to the model of this agent. "
            f"Use one of these: {known}.",
            param="reasoning_effort",
        )
    if is_adaptive(model):
        return _adaptive(effort, _version(model))
    # The budget is a part of max_tokens; the answer needs room too.
    budget = min(_BUDGETS[effort], max_tokens // 2)
    if budget < _LEAST_BUDGET:
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def is_adaptive(model: str) -> bool:
    """Whether the model takes an effort instead of a budget."""
    return _version(model) >= _ADAPTIVE


def _adaptive(effort: str, version: tuple[int, int]) -> dict[str, object]:
    fields: dict[str, object] = {}
    if effort != "none":
        kind = {"type": "adaptive"}
        if version >= _MORE_EFFORTS:
            kind["display"] = "summarized"
        fields["thinking"] = kind
    has_more = version >= _MORE_EFFORTS and effort in ("xhigh", "max")
    fields["output_config"] = {"effort": effort if has_more else _EFFORTS.get(effort, effort)}
    return fields


def _version(model: str) -> tuple[int, int]:
    """The version in the name of a Claude model; (0, 0) for any other name."""
    found = _MODEL.search(model.lower())
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)
