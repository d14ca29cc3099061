"""The token counts of an answer, in the spellings and places that providers use."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Any

from .....domain.models import Usage

_MOST = 10**12
"""Tokens. Larger counts are treated as errors of the provider."""

_Path = tuple[str, ...]
_INPUT: tuple[_Path, ...] = (("prompt_tokens",), ("input_tokens",))
_OUTPUT: tuple[_Path, ...] = (("completion_tokens",), ("output_tokens",))
_REASONING: tuple[_Path, ...] = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
    ("reasoning_tokens",),
)
_CACHED: tuple[_Path, ...] = (
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),  # DeepSeek
    ("cached_tokens",),  # Moonshot
    ("cache_read_input_tokens",),  # Anthropic
)
_FIELDS = {
    "input": _INPUT,
    "output": _OUTPUT,
    "reasoning": _REASONING,
    "cached": _CACHED,
    "total": (("total_tokens",),),
}


class UsageCounts:
    """Merges the usage reports of one answer.

    Some providers report the prompt's tokens first and the answer's last, or repeat a report with
    some fields null or zero. The last positive count of each field is used.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def read(self, chunk: dict[str, Any], choices: Iterable[dict[str, Any]]) -> None:
        """Merge the reports of a chunk. They may be in the chunk, in a choice, in its content, or
        in Groq's field."""
        for choice in choices:
            for content in (choice.get("delta"), choice.get("message")):
                if isinstance(content, dict):
                    self._merge(content.get("usage"))
            self._merge(choice.get("usage"))
        groq = chunk.get("x_groq")
        if isinstance(groq, dict):
            self._merge(groq.get("usage"))
        self._merge(chunk.get("usage"))

    def total(self) -> Usage | None:
        """The reported usage; None if there is none, or zero tokens."""
        count = self._counts.get
        input_tokens, output_tokens = count("input", 0), count("output", 0)
        reasoning, cached, both = count("reasoning", 0), count("cached", 0), count("total", 0)
        if input_tokens and not output_tokens:
            output_tokens = max(0, both - input_tokens)
        elif output_tokens and not input_tokens:
            input_tokens = max(0, both - output_tokens)
        # Some exclude reasoning from the answer's count (xAI), or cached tokens from the prompt's.
        if reasoning > output_tokens or (
            reasoning and both == input_tokens + output_tokens + reasoning
        ):
            output_tokens += reasoning
        if cached > input_tokens:
            input_tokens += cached
        usage = Usage(input_tokens, output_tokens, reasoning=reasoning, cached=cached)
        return usage if usage.total else None

    def _merge(self, report: object) -> None:
        if not isinstance(report, dict) or not report:
            return
        for name, paths in _FIELDS.items():
            if found := next((n for path in paths if (n := _at(report, path))), 0):
                self._counts[name] = found
        if not _at(report, ("prompt_tokens",)) and _at(report, ("input_tokens",)):
            # Anthropic's format, whose `input_tokens` exclude cached tokens.
            for name in ("cache_read_input_tokens", "cache_creation_input_tokens"):
                self._counts["input"] += _at(report, (name,))


def _at(report: object, path: _Path) -> int:
    for name in path:
        report = report.get(name) if isinstance(report, dict) else None
    return _count(report)


def _count(value: object) -> int:
    """A number, also as a float or a string of digits; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return 0
    return int(number) if isfinite(number) and 0 < number < _MOST else 0
