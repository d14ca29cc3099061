"""A runner of your own: an agent that answers without any model, in capital letters.

Name it in your package's metadata, and then in the configuration:

    [project.entry-points."opensoul.runners"]      agents: { list: [
    shout = "shouting_runner:ShoutingRunner"         { id: "loud", runner: "shout" } ] }
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from opensoul.api import (
    Answered,
    Role,
    RunContext,
    RunnerEvents,
    StopReason,
    TextDelta,
    Usage,
    estimate,
    estimate_all,
    text_message,
)


class ShoutingRunner:
    """Fits the port `AgentRunner`; nothing is inherited, the shape is enough."""

    async def run(self, context: RunContext) -> AsyncGenerator[RunnerEvents]:
        """Stream the answer in pieces, then say once what is to be stored.

        Events that come at the same time may be yielded together, as a list.
        """
        answer = context.spec.messages[-1].text.upper() + "!"
        for word in re.findall(r"\S+\s*|\s+", answer):
            yield TextDelta(word)
        message = text_message(Role.ASSISTANT, answer)
        usage = Usage(estimate_all(context.spec.messages), estimate(message), estimated=True)
        yield Answered((message,), StopReason.STOP, usage, "shout/1")

    def history_budget(self, context: RunContext) -> int:
        """This agent has no use for what was said before."""
        return 0
