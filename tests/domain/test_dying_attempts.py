"""Attempts of a run that die at each of its commits: what the attempts after them do again."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import count

import pytest

from opensoul.adapters.persistence.memory import MemoryApprovals
from opensoul.adapters.providers.scripted import Scripted
from opensoul.domain.errors import LeaseLost
from opensoul.domain.execution.loop import TurnLoop
from opensoul.domain.execution.router import ModelRouter
from opensoul.domain.messages import Message, Role, ToolCall
from opensoul.domain.models.cooldowns import Cooldowns
from opensoul.domain.ports import RunContext, ToolContext
from opensoul.domain.runs.events import Answered
from opensoul.domain.runs.journal import INTERRUPTED, Journal
from opensoul.domain.tools import Effect, Repeat, ToolOutput, ToolResult, ToolSpec
from tests.fakes.domain import FakeClock, agent, run, target, user

SCRIPT = """
/call send {"to": "a"}
/call send {"to": "b"}
/call send no JSON
/then
/call send {"to": "c"}
/call vanish {}
Done.
"""
READS = frozenset({Effect.READ})
LAST = "[scripted] Done."


@dataclass
class Sender:
    """A Toolbox of one tool, which counts how often each call was run."""

    spec: ToolSpec
    runs: Counter[str] = field(default_factory=Counter)

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return (self.spec,)

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        self.runs[call.id] += 1
        yield ToolResult(f"sent {call.id}")

    async def close(self) -> None:
        """There is nothing to release."""


@dataclass
class Attempts:
    """The attempts of one run, each of which goes on with what those before it have stored."""

    toolbox: Sender
    stored: Journal | None = None
    commits: int = 0

    async def attempt(self, *, dies_at: int | None, stores: bool = True) -> Answered | None:
        """Go on; None where the attempt has died at that commit, whose journal it may store."""
        number = count(1)

        async def commit(journal: Journal) -> None:
            self.commits = next(number)
            if self.commits != dies_at or stores:
                self.stored = journal
            if self.commits == dies_at:
                raise LeaseLost("The process died.")

        clock = FakeClock()
        router = ModelRouter(clients={"fake": Scripted()}, cooldowns=Cooldowns(clock))
        loop = TurnLoop(router, self.toolbox, MemoryApprovals(), clock=clock)
        context = RunContext(
            run(messages=(user(SCRIPT),)),
            agent("main", target("acme/one")),
            stored=self.stored,
            commit=commit,
        )
        try:
            async with aclosing(loop.run(context)) as batches:
                async for batch in batches:
                    if isinstance(batch[-1], Answered):
                        return batch[-1]
        except LeaseLost:
            return None
        raise AssertionError("the run has ended without an answer")


def is_strict(messages: Sequence[Message]) -> bool:
    """Whether each message with calls is followed by their results, and nothing else by results."""
    awaited: list[str] = []
    for message in messages:
        if message.role is Role.TOOL:
            if not awaited or message.tool_call_id != awaited.pop(0):
                return False
        elif awaited:
            return False
        else:
            awaited = [part.id for part in message.parts if isinstance(part, ToolCall)]
    return not awaited


SPECS = {
    "one by one, unsafe": ToolSpec("send", "Sends."),
    "one by one, safe": ToolSpec("send", "Sends.", repeat=Repeat.SAFE),
    "at once, unsafe": ToolSpec("send", "Sends.", effects=READS),
    "at once, safe": ToolSpec("send", "Sends.", effects=READS, repeat=Repeat.SAFE),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("stores", [True, False], ids=["stored", "lost"])
async def test_an_attempt_that_dies_at_any_commit_is_followed_by_one_that_ends_the_run(
    spec: ToolSpec, stores: bool
) -> None:
    whole = Attempts(Sender(spec))
    answered = await whole.attempt(dies_at=None)
    assert answered is not None
    assert whole.toolbox.runs == {"call_1": 1, "call_2": 1, "call_4": 1}
    assert whole.commits >= 4

    for dies_at in range(1, whole.commits + 1):
        attempts = Attempts(Sender(spec))
        assert await attempts.attempt(dies_at=dies_at, stores=stores) is None
        results = attempts.stored.steps[-1].results if attempts.stored is not None else ()
        finished = {result.tool_call_id for result in results}
        before = Counter(attempts.toolbox.runs)

        ended = await attempts.attempt(dies_at=None)

        assert ended is not None
        assert is_strict(ended.messages)
        assert ended.messages[-1].text == LAST
        again = attempts.toolbox.runs - before
        assert not finished & set(again), "a call with a stored result was run again"
        if spec.repeat is Repeat.UNSAFE:
            assert max(attempts.toolbox.runs.values()) == 1
            lost = [message for message in ended.messages if message.text == INTERRUPTED]
            assert len(attempts.toolbox.runs) + len(lost) >= 3
        else:
            assert ended == answered
