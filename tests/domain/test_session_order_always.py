"""Runs and changes of one Session in any interleaving: what was acknowledged is where its order
puts it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from hypothesis import settings, target
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from opensoul.domain.errors import UnknownSession
from opensoul.domain.runs.events import Finished
from tests.domain.slow_store import ADMIN, TALK, SlowOffice, SlowStore
from tests.examples import examples
from tests.fakes.domain import Gate, answered, run, user

MOST = 12
"""Runs and changes of one Session; fewer than its lane takes."""


CURRENT: ContextVar[str] = ContextVar("CURRENT")
"""The change that a task works on; who asked for it may have left."""


@dataclass(eq=False)
class Step:
    """Something that was asked of the Session. `task` is a change; a Run has a gate instead."""

    name: str
    kind: str
    task: asyncio.Task[Any] | None = None
    gate: Gate | None = None


class Transcripts:
    """What the Session should hold, oldest transcript first."""

    def __init__(self) -> None:
        self.all: list[list[str]] = []

    def apply(self, step: Step) -> None:
        match step.kind:
            case "run":
                self.all = self.all or [[]]
                self.all[-1] += [f"u {step.name}", f"a {step.name}"]
            case "inject":
                self.all[-1].append(f"i {step.name}")
            case "reset":
                self.all.append([])
            case "delete":
                self.all = []
            case "compact":
                kept = self.all[-1][-3:]
                while kept and not kept[0].startswith("u "):
                    kept = kept[1:]
                if kept != self.all[-1]:
                    self.all.append(kept)


class OrderMachine(RuleBasedStateMachine):
    """Begins Runs and changes, lets Runs answer, and stops what it likes, in any order."""

    @initialize(rounds=st.integers(0, 4))
    def begin(self, rounds: int) -> None:
        self.runner = asyncio.Runner()
        self.office = SlowOffice(slow=SlowStore(rounds))
        self.runner.run(self.office.slow.open())
        self.steps: list[Step] = []
        self.made: set[str] = set()
        self.office.session_service.on_change(lambda *_: self.made.add(CURRENT.get()))

    @precondition(lambda self: len(self.steps) < MOST)
    @rule(rounds=st.integers(0, 6))
    def run_(self, rounds: int) -> None:
        async def work() -> None:
            name = f"run-{len(self.steps)}"
            gate = Gate()
            self.office.runner.script(name, gate, answered(f"a {name}"))
            await self.office.queue.enqueue(run(name, messages=(user(f"u {name}"),)))
            self.steps.append(Step(name, "run", gate=gate))
            await go_on(rounds)

        self.runner.run(work())

    @precondition(lambda self: len(self.steps) < MOST)
    @rule(kind=st.sampled_from(["compact", "reset", "delete", "inject"]), rounds=st.integers(0, 6))
    def change(self, kind: str, rounds: int) -> None:
        async def work() -> None:
            name = f"{kind}-{len(self.steps)}"
            more: tuple[Any, ...] = {"compact": (3,), "inject": (f"i {name}",)}.get(kind, ())
            CURRENT.set(name)
            task = asyncio.create_task(
                getattr(self.office.session_service, kind)(ADMIN, TALK, *more)
            )
            self.steps.append(Step(name, kind, task=task))
            await go_on(1 + rounds)  # In the first round it takes its place.

        self.runner.run(work())

    @rule(data=st.data(), rounds=st.integers(0, 8))
    def answer(self, data: st.DataObject, rounds: int) -> None:
        waiting = [s for s in self.steps if s.gate is not None and not s.gate.opened.is_set()]
        if waiting:
            step = data.draw(st.sampled_from(waiting), "whose runner answers")
            assert step.gate is not None
            step.gate.opened.set()
        self.runner.run(go_on(rounds))

    @precondition(lambda self: self.steps)
    @rule(data=st.data(), rounds=st.integers(0, 4))
    def stop(self, data: st.DataObject, rounds: int) -> None:
        """A Run is aborted; the caller of a change leaves."""
        step = data.draw(st.sampled_from(self.steps), "what is stopped")

        async def work() -> None:
            if step.task is None:
                await self.office.queue.abort(step.name, "enough")
            else:
                step.task.cancel()
            await go_on(rounds)

        self.runner.run(work())

    def teardown(self) -> None:
        try:
            self.runner.run(self._everything_is_where_it_belongs())
        finally:
            self.runner.close()

    async def _everything_is_where_it_belongs(self) -> None:
        for step in self.steps:
            if step.gate is not None:
                step.gate.opened.set()
        tasks = [step.task for step in self.steps if step.task is not None]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for step in self.steps:
            if step.kind == "run":
                await self.office.log.end_of(step.name)
        await asyncio.gather(*self.office.queue._changes)
        assert all(
            isinstance(o, UnknownSession | asyncio.CancelledError)
            for o in outcomes
            if isinstance(o, BaseException)
        )
        assert await self._transcripts() == await self._expected()
        assert (self.office.lanes.working, self.office.lanes.waiting) == (0, 0)
        assert self.office.lanes.sessions == 0

    async def _transcripts(self) -> list[list[str]]:
        kept = await self.office.slow.transcripts(TALK, 100)
        return [await self.office.texts(one.session_id) for one in reversed(kept)]

    async def _expected(self) -> list[list[str]]:
        expected = Transcripts()
        acknowledged = 0
        for step in self.steps:
            if await self._was_done(step):
                expected.apply(step)
                acknowledged += 1
        target(float(acknowledged))
        return expected.all

    async def _was_done(self, step: Step) -> bool:
        if step.task is None:
            return isinstance(self.office.log.events[step.name][-1], Finished)
        if not step.task.cancelled():
            assert (step.task.exception() is None) or step.name not in self.made
        return step.name in self.made


async def go_on(rounds: int) -> None:
    """Let everybody take so many steps."""
    for _ in range(rounds):
        await asyncio.sleep(0)


OrderMachine.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=25, deadline=None
)
TestOrder = OrderMachine.TestCase
