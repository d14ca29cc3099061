"""Patterns in which `*` stands for any characters."""

from __future__ import annotations

from collections.abc import Sequence


def matches(parts: Sequence[str], text: str) -> bool:
    """Whether the text is these parts, in their order, with anything between two of them.

    Linear in the text, unlike a regular expression, as the text may come from a model.
    """
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return text == first
    end = len(text) - len(last)
    if end < len(first) or not text.startswith(first) or not text.endswith(last):
        return False
    at = len(first)
    for part in parts[1:-1]:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
