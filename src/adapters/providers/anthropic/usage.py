"""The token counts of a message."""

from __future__ import annotations

from ....domain.models import Usage

_INPUT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
"""Unlike in OpenAI's accounting, the first excludes the others."""
_MOST_TOKENS = 10**12
"""Larger counts are treated as errors of the provider."""


class UsageCounts:
    """Merges the reports of one answer. They are cumulative: a later count replaces an earlier
    one."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def read(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        for name in (*_INPUT, "output_tokens"):
            count = usage.get(name)
            if isinstance(count, int) and 0 < count < _MOST_TOKENS:
                self._counts[name] = count

    def total(self) -> Usage | None:
        """The reported usage; None if there is none."""
        if not self._counts:
            return None
        count = self._counts.get
        inputs = sum(count(name, 0) for name in _INPUT)
        cached = count("cache_read_input_tokens", 0)
        written = count("cache_creation_input_tokens", 0)
        return Usage(inputs, count("output_tokens", 0), cached=cached, cache_writes=written)
