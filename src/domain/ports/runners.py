"""Runners: what makes an Agent answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from ..runs import Run, RunnerEvent
from ..sessions import Transcript


class AgentRunner(Protocol):
    """Makes an Agent answer."""

    def run(self, run: Run, transcript: Transcript) -> AsyncGenerator[Sequence[RunnerEvent]]:
        """Answer `run.messages`; the last event is Answered, unless a GatewayError is raised.

        Events that came together are told together, one at least; none is held back for another.

        `transcript` holds what came before and is not repeated in the answer. Closing the stream
        stops the work. `run.messages` are never cut; history may be.
        """
        ...

    def history_budget(self, run: Run) -> int:
        """How many tokens of history (as `history.estimate` counts) this run can make use of."""
        ...
