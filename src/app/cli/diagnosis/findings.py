"""What `opensoul doctor` finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong. `code` is a stable slug, `advice` says what to do about it.

    `repair` is there where that is safe to do for the user; it raises OSError where it fails.
    """

    code: str
    message: str
    advice: str
    repair: Callable[[], None] | None = None

    def described(self, *, fixed: bool) -> dict[str, object]:
        """For programs."""
        return {
            "code": self.code,
            "message": self.message,
            "advice": self.advice,
            "fixable": self.repair is not None,
            "fixed": fixed,
        }
