"""How stores search their sessions: alike, whatever they keep them in."""

from __future__ import annotations


def found(search: str, *texts: str | None) -> bool:
    """Whether one of the texts contains what is searched for, without regard to case."""
    folded = search.casefold()
    return any(text is not None and folded in text.casefold() for text in texts)
