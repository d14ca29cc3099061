"""The checks of `opensoul doctor`, and what they find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem. `code`: a stable slug; `advice`: what to do.

    `repair`: a safe repair, if there is one; it raises OSError on failure.
    """

    code: str
    message: str
    advice: str
    repair: Callable[[], None] | None = None

    def described(self, *, fixed: bool) -> dict[str, object]:
        """The finding as JSON data."""
        return {
            "code": self.code,
            "message": self.message,
            "advice": self.advice,
            "fixable": self.repair is not None,
            "fixed": fixed,
        }


__all__ = ["Finding"]
