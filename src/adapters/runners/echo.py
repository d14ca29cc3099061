"""A runner without a model: it answers with the question. For tests and first steps."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from ...domain.messages import Role, text_message
from ...domain.models import StopReason, TextDelta, Usage
from ...domain.ports import RunContext
from ...domain.runs import Answered, RunnerEvents
from ...domain.sessions import estimate, estimate_all

MODEL = "echo/echo"


class EchoRunner:
    """Repeats the last message word by word, and says how much came before it."""

    async def run(self, context: RunContext) -> AsyncGenerator[RunnerEvents]:
        past = len(context.transcript.messages)
        answer = f"[echo after {past} messages] {context.spec.messages[-1].text}"
        yield [TextDelta(word) for word in re.findall(r"\S+\s*|\s+", answer)]
        message = text_message(Role.ASSISTANT, answer)
        usage = Usage(estimate_all(context.spec.messages), estimate(message), estimated=True)
        yield Answered((message,), StopReason.STOP, usage, MODEL)

    def history_budget(self, context: RunContext) -> int:
        """Everything that a conversation of a usual size holds."""
        return 100_000
