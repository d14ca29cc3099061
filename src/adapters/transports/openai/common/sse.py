"""Frames that the streams of all formats have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .....domain.runs import RunEvent
from ...http import Problem
from ...http.json_text import dumps

KEEPALIVE = b": keepalive\n\n"


class RunFrames(Protocol):
    """Writes the frames of one run in one format."""

    ended: bool
    """The last frame was written."""

    def of(self, events: Iterable[RunEvent]) -> bytes:
        """The frames for `events`; empty where the format has none for them."""


def error_frame(problem: Problem) -> bytes:
    """The last frame of a stream that failed."""
    return b"data: " + dumps(problem.envelope) + b"\n\n"
