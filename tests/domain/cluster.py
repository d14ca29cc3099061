"""Two executors over one queue, one log and one store, as two processes would be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from opensoul.adapters.persistence.common import NoCatalog
from opensoul.adapters.persistence.queue import Lanes, LocalQueue
from opensoul.domain.errors import StoreFailed
from opensoul.domain.execution.executor import Executor
from opensoul.domain.execution.generations import Generations
from opensoul.domain.ports import (
    AgentRunner,
    Clock,
    RunEvents,
    RunQueue,
    SessionCatalog,
    Turn,
    Worker,
)
from opensoul.domain.runs.claims import Claim, Signal
from opensoul.domain.runs.events import Aborted
from opensoul.domain.runs.spec import RunSpec
from opensoul.domain.settings import Settings
from tests.fakes.domain import (
    FakeClock,
    FakeIds,
    FakeRunEvents,
    FakeRunner,
    FakeStore,
    answered,
    settings,
)

LEASE = 30.0


class StoredTurns(NoCatalog):
    """Knows the turns of a FakeStore."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store

    async def turn(self, run_id: str) -> Turn | None:
        return next((turn for turn in self._store.turns if turn.run_id == run_id), None)


@dataclass
class Line:
    """Between a process and everything else. Once it is cut, nothing gets through either way."""

    is_cut: bool = False

    def to(self, part: Any) -> Any:
        return _Beyond(self, part)


class _Beyond:
    """A part of the world at the other end of a Line."""

    def __init__(self, line: Line, part: Any) -> None:
        self._line = line
        self._part = part

    def __getattr__(self, name: str) -> Any:
        if self._line.is_cut:
            raise StoreFailed("no connection")
        return getattr(self._part, name)

    def serve(self, owner: str, worker: Worker) -> None:
        self._part.serve(owner, _Remote(self._line, worker))


@dataclass
class _Remote:
    """A worker at the other end of a Line."""

    line: Line
    worker: Worker

    def take(self, claim: Claim) -> None:
        if not self.line.is_cut:
            self.worker.take(claim)

    def abort(self, run_id: str, reason: str) -> bool:
        return self.line.is_cut or self.worker.abort(run_id, reason)

    def deliver(self, run_id: str, signal: Signal) -> None:
        if not self.line.is_cut:
            self.worker.deliver(run_id, signal)

    def closed(self, spec: RunSpec, ending: Aborted) -> None:
        if not self.line.is_cut:
            self.worker.closed(spec, ending)


@dataclass
class Process:
    """An executor with its own runner."""

    executor: Executor
    runner: FakeRunner
    line: Line


class WatchedQueue(LocalQueue):
    """Calls `on_renew` whenever leases were renewed."""

    on_renew: Callable[[], None] = staticmethod(lambda: None)

    async def renew(self, owner: str, claims: Sequence[Claim]) -> Sequence[Claim]:
        lost = await super().renew(owner, claims)
        self.on_renew()
        return lost


@dataclass
class Cluster:
    """Claims go to the processes in turn, the first one to `one`. `steady` moves the leases."""

    settings: Settings = field(default_factory=settings)
    steady: Clock = field(default_factory=FakeClock)
    lease: float = LEASE
    log: FakeRunEvents = field(default_factory=FakeRunEvents)
    store: FakeStore = field(default_factory=FakeStore)
    runner: AgentRunner | None = None
    """The runner of both processes, in place of one for each."""

    def __post_init__(self) -> None:
        self.catalog: SessionCatalog = StoredTurns(self.store)
        self.lanes = Lanes(lambda: self.settings.lanes)
        self.queue = WatchedQueue(
            rows=self.log,
            lanes=self.lanes,
            clock=FakeClock(),
            steady=self.steady,
            lease=self.lease,
        )
        self.one, self.two = self._process("one"), self._process("two")

    def _process(self, owner: str) -> Process:
        line, runner = Line(), FakeRunner(answered(owner))
        executor = Executor(
            owner=owner,
            runners={"native": self.runner or runner},
            store=self.store,
            catalog=self.catalog,
            queue=cast(RunQueue, line.to(self.queue)),
            signals=self.queue,
            run_events=cast(RunEvents, line.to(self.log)),
            settings=lambda: self.settings,
            generations=Generations(lambda: self.settings),
            clock=FakeClock(),
            new_id=FakeIds(),
            lease=self.lease,
        )
        return Process(executor, runner, line)

    def expire(self) -> None:
        """More than a lease has passed since anybody renewed anything."""
        assert isinstance(self.steady, FakeClock)
        self.steady.advance(self.lease + 1)
        self.queue.take_over_expired()
