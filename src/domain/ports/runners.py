"""Runners: what makes an Agent answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from ..agents import Agent
from ..immutable import immutable
from ..models import Usage
from ..runs import Inbox, Journal, RunnerEvents, RunSpec
from ..sessions import Summary, Transcript
from .sessions import StoredSession

NOTHING_SAID = Transcript()

Commit = Callable[[Journal], Awaitable[None]]


async def keep_nothing(journal: Journal) -> None:
    """The Commit of a RunContext without a store."""


class Archive(Protocol):
    """The transcript that a Run adds to, as it is stored."""

    async def load(self, budget: int) -> StoredSession | None:
        """As SessionStore.load; None where the transcript is not the current one any more."""
        ...

    async def put_summary(self, summary: Summary) -> bool:
        """As SessionStore.put_summary. Raises LeaseLost, StoreFailed."""
        ...


@dataclass(slots=True)
class Spent:
    """What the model calls of a Run without an answer have used that neither its events nor its
    steps show."""

    usage: Usage | None = None
    """Of answers that were refused, by `model`."""
    model: str = ""
    withheld: int = 0
    """Bytes of the text of the last call that no event has."""


@immutable(frozen=True, slots=True)
class RunContext:
    """What a runner works with: the Run, its Agent, and what was said before."""

    spec: RunSpec
    agent: Agent
    transcript: Transcript = NOTHING_SAID
    signals: Inbox = field(default_factory=Inbox)
    """What reaches the Run from outside while it goes on."""
    stored: Journal | None = None
    """What earlier attempts have committed; None: nothing."""
    commit: Commit = keep_nothing
    """Store the steps of a journal. Returns when they are durable; the next attempt gets them as
    `stored`. To be awaited before a tool call is begun, and before the next model call. Only the
    last step that was committed may change. Raises LeaseLost, StoreFailed."""

    fresh: int | None = None
    """How many of the newest messages were said since the provider's cache had last expired; None:
    no result is pruned."""
    archive: Archive | None = None
    """None where nothing of the transcript is stored."""
    spent: Spent = field(default_factory=Spent)
    """Is filled by the runner."""

    @property
    def journal(self) -> Journal:
        """What this attempt goes on with."""
        return Journal(self.spec.messages) if self.stored is None else self.stored


class AgentRunner(Protocol):
    """Makes an Agent answer."""

    def run(self, context: RunContext) -> AsyncGenerator[RunnerEvents]:
        """Answer the messages; the last event is Answered, unless a GatewayError is raised, or
        Waiting where only a signal lets the Run go on: then the next attempt answers.

        Events that come together are yielded together, as a list or a tuple; others one by one.
        None is held back for another.

        `context.transcript` holds what came before, as it is stored, and is not repeated in the
        answer; its `summary`, if any, stands for the messages before these, and
        `sessions.introduced` puts it in front of them. `sessions.repaired` makes it and the Run's
        messages acceptable to a strict provider; it is one rule for both together, since a message
        that is removed may join its neighbours.
        Closing the stream stops the work. The Run's messages are never cut; history may be.
        """
        ...

    def history_budget(self, context: RunContext) -> int:
        """How many tokens of history (as `history.estimate` counts) this run can make use of."""
        ...
