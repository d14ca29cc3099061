"""An executor with fakes all around, ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from opensoul.adapters.persistence.common import NoCatalog
from opensoul.adapters.persistence.queue import Lanes, LocalQueue
from opensoul.domain.agents import AgentDirectory
from opensoul.domain.execution.executor import Executor
from opensoul.domain.execution.generations import Generations
from opensoul.domain.ports import AgentRunner, SessionCatalog
from opensoul.domain.runs.events import TERMINAL, RunEvent
from opensoul.domain.runs.spec import RunSpec
from opensoul.domain.settings import Settings
from tests.fakes.domain import (
    FakeClock,
    FakeIds,
    FakeRunEvents,
    FakeRunner,
    FakeStore,
    agent,
    answered,
    run,
    settings,
)


@dataclass
class Rig:
    """`runner` answers "hi" unless it is told otherwise; `settings` may be replaced at any time."""

    runner: FakeRunner = field(default_factory=lambda: FakeRunner(answered()))
    others: Mapping[str, AgentRunner] = field(default_factory=dict)
    settings: Settings = field(default_factory=settings)
    store: FakeStore = field(default_factory=FakeStore)
    log: FakeRunEvents = field(default_factory=FakeRunEvents)
    clock: FakeClock = field(default_factory=FakeClock)
    new_id: FakeIds = field(default_factory=FakeIds)
    patience: float = 10.0
    catalog: SessionCatalog = field(default_factory=NoCatalog)
    steady: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        """There is an agent of the same name for each of the other runners."""
        others = [agent(name, runner=name) for name in self.others]
        self.settings = replace(
            self.settings, agents=AgentDirectory([*self.settings.agents, *others], "main")
        )
        self.lanes = Lanes(lambda: self.settings.lanes)
        self.queue = LocalQueue(
            rows=self.log, lanes=self.lanes, clock=self.clock, steady=self.steady
        )
        self.executor = Executor(
            owner="one",
            runners={"native": self.runner, **self.others},
            store=self.store,
            catalog=self.catalog,
            queue=self.queue,
            signals=self.queue,
            run_events=self.log,
            settings=lambda: self.settings,
            generations=Generations(lambda: self.settings),
            clock=self.clock,
            new_id=self.new_id,
            patience=self.patience,
        )

    async def end_of(self, run: RunSpec) -> RunEvent:
        """Dispatch the Run and wait for its terminal event."""
        await self.queue.enqueue(run)
        return await self.log.end_of(run.id)

    async def is_at_rest(self, *run_ids: str) -> bool:
        """Nothing is left of the Runs but one terminal event each, and their lane is free."""
        for run_id in run_ids:
            terminal = [e for e in self.log.events[run_id] if isinstance(e, TERMINAL)]
            assert terminal == self.log.events[run_id][-1:]
        assert (self.lanes.working, self.lanes.waiting) == (0, 0)
        assert (len(self.queue), len(self.executor)) == (0, 0)
        assert self.runner.working == 0
        self.store.load_gate = self.store.load_failure = None
        self.store.append_gate = self.store.append_failure = None
        self.runner.script("next", answered())
        return isinstance(await self.end_of(run("next")), TERMINAL)
