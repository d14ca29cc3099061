"""A framework of your own for Python agents: an agent is a book of rules.

Name it in the metadata of your package; then such agents are recognised as targets:

    [project.entry-points."opensoul.python_agents"]    runner: { use: "python",
    rule-books = "rule_book_framework:RuleBooks"         target: "my_rules:book" }
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import cast

from opensoul.api import (
    AgentEvents,
    AgentRun,
    Answered,
    Role,
    StopReason,
    TextDelta,
    Usage,
    estimate,
    estimate_all,
    text_message,
)


@dataclass(frozen=True)
class RuleBook:
    """The agent. A real one comes from a package that is imported in `run`, not at the top."""

    rules: Mapping[str, str]
    otherwise: str = "I have no rule for that."

    def answer(self, question: str) -> str:
        words = re.findall(r"\w+", question.lower())
        return next((self.rules[word] for word in words if word in self.rules), self.otherwise)


class RuleBooks:
    """Fits the protocol `Framework`; nothing is inherited, the shape is enough."""

    types = frozenset({f"{__name__}.RuleBook"})

    def describe(self, target: object) -> str:
        """What `opensoul agents check` and `opensoul status` show."""
        return f"a book of {len(cast(RuleBook, target).rules)} rules"

    async def run(self, target: object, run: AgentRun) -> AsyncGenerator[AgentEvents]:
        """Stream the answer, then say once what is to be stored."""
        answer = cast(RuleBook, target).answer(run.text)
        for word in re.findall(r"\S+\s*", answer):
            yield TextDelta(word)
        message = text_message(Role.ASSISTANT, answer)
        usage = Usage(estimate_all(run.messages), estimate(message), estimated=True)
        yield Answered((message,), StopReason.STOP, usage, "rule-book/1")
