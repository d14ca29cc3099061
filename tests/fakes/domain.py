"""What the domain needs from outside, faked: driven by events and a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Sequence,
)
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from opensoul.adapters.persistence.common import HeldSteps
from opensoul.adapters.persistence.queue import KeptSpec
from opensoul.domain.agents import Agent, AgentDirectory
from opensoul.domain.errors import LeaseLost, ShuttingDown, UnknownRun
from opensoul.domain.messages import Message, Role, text_message
from opensoul.domain.models.calls import (
    ModelEvent,
    ModelRequest,
    ModelTarget,
    Provider,
    Secret,
    StopReason,
    Usage,
)
from opensoul.domain.ports import RunContext, StoredSession, Transcript, Turn, Worker
from opensoul.domain.runs.claims import Claim, Submission
from opensoul.domain.runs.events import (
    TERMINAL,
    Aborted,
    Answered,
    EventBatch,
    Failed,
    Finished,
    RunEvent,
    RunnerEvent,
    Started,
    Waiting,
)
from opensoul.domain.runs.records import RunPage, RunQuery, RunRecord, record_of, status_after
from opensoul.domain.runs.spec import RunSpec
from opensoul.domain.sessions.history import newest_that_fit
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.settings import AuthMode, AuthSettings, Settings

T = TypeVar("T")


class FakeClock:
    """A clock that moves when it is told to. In seconds."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeIds:
    """`id-1`, `id-2`, ..."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> str:
        self.made += 1
        return f"id-{self.made}"


@dataclass(slots=True, eq=False)
class Gate:
    """A place in a script where the fake waits: it tells that it got there, and is let on."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def pass_through(self) -> None:
        self.reached.set()
        await self.opened.wait()


ModelStep = ModelEvent | Sequence[ModelEvent] | Exception | Gate
RunnerStep = RunnerEvent | Sequence[RunnerEvent] | Exception | Gate
"""What a script holds: an event, events that are told together, an error, or a place to wait."""


class FakeModelClient:
    """A ModelClient that plays scripts: per model, one for each call; the last one repeats."""

    def __init__(self) -> None:
        self._scripts: dict[str, list[tuple[ModelStep, ...]]] = {}
        self.requests: list[ModelRequest] = []
        self.streaming = 0
        """How many calls are open."""
        self.closed = False

    def script(self, model: str, *steps: ModelStep) -> None:
        """What the next call of `model` (its `provider/model`) yields, raises or waits for."""
        self._scripts.setdefault(model, []).append(steps)

    @property
    def called(self) -> list[str]:
        return [request.target.ref for request in self.requests]

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        scripts = self._scripts[request.target.ref]
        steps = scripts[min(self.called.count(request.target.ref), len(scripts) - 1)]
        self.requests.append(request)
        self.streaming += 1
        try:
            for step in steps:
                match step:
                    case Gate():
                        await step.pass_through()
                    case Exception():
                        raise step
                    case Sequence():
                        yield step
                    case _:
                        yield (step,)
        finally:
            self.streaming -= 1

    async def close(self) -> None:
        self.closed = True


class FakeRunner:
    """An AgentRunner that plays one script for every Run, or a Run's own one."""

    def __init__(self, *steps: RunnerStep, budget: int = 10_000) -> None:
        self._steps = steps
        self._own: dict[str, tuple[RunnerStep, ...]] = {}
        self._budget = budget
        self.seen: list[tuple[RunSpec, Transcript]] = []
        self.contexts: list[RunContext] = []
        self.measured: list[RunSpec] = []
        """The Runs whose history budget was asked for."""
        self.working = 0

    def script(self, run_id: str, *steps: RunnerStep) -> None:
        self._own[run_id] = steps

    def history_budget(self, context: RunContext) -> int:
        self.measured.append(context.spec)
        return self._budget

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        self.seen.append((context.spec, context.transcript))
        self.contexts.append(context)
        self.working += 1
        try:
            for step in self._own.get(context.spec.id, self._steps):
                match step:
                    case Gate():
                        await step.pass_through()
                    case Exception():
                        raise step
                    case Sequence():
                        yield step
                    case _:
                        yield (step,)
        finally:
            self.working -= 1


class FakeStore(HeldSteps):
    """A SessionStore of turns in a list. What fails or waits is set from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[Turn] = []
        self.budgets: list[int] = []
        self.load_failure: Exception | None = None
        self.append_failure: Exception | None = None
        self.write_failure: Exception | None = None
        """Known before anything is written."""
        self.load_gate: Gate | None = None
        self.append_gate: Gate | None = None
        """Where `append` waits before it stores."""

    async def open(self) -> None:
        pass

    async def load(
        self, key: SessionKey, budget: int, *, result_chars: int | None = None
    ) -> StoredSession | None:
        if self.load_gate is not None:
            await self.load_gate.pass_through()
        if self.load_failure is not None:
            raise self.load_failure
        self.budgets.append(budget)
        turns = [turn for turn in self.turns if turn.key == key]
        if not turns:
            return None
        session_id = turns[-1].session_id
        current = [turn for turn in turns if turn.session_id == session_id]
        messages = [message for turn in current for message in turn.messages]
        tail = newest_that_fit(messages, budget)
        complete = len(tail) == len(messages)
        return StoredSession(
            key, session_id, turns[-1].at, len(messages), Transcript(tail, complete)
        )

    def has_turn(self, run_id: str) -> bool:
        return any(turn.run_id == run_id for turn in self.turns)

    async def append(self, turn: Turn) -> None:
        if self.append_gate is not None:
            await self.append_gate.pass_through()
        if self.append_failure is not None:
            raise self.append_failure
        self.check_attempt(turn.run_id, turn.attempt)
        self.turns.append(turn)
        self.close_turn(turn.run_id)

    async def prune_one_off(self, keep: float | None, max_bytes: int | None = None) -> int:
        raise NotImplementedError

    async def check_writable(self) -> None:
        if self.write_failure is not None:
            raise self.write_failure

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        pass


class FakeRunEvents:
    """A RunEvents that keeps everything for ever, in memory."""

    def __init__(self) -> None:
        self.events: dict[str, list[RunEvent]] = {}
        """Of the Runs that were opened."""
        self.records: dict[str, RunRecord] = {}
        """As they were when the Runs were reserved or opened."""
        self.earlier: list[str] = []
        """Runs of an earlier process: what `unfinished` tells, as long as they have no end."""
        self.open_failure: Exception | None = None
        self.reserve_failure: Exception | None = None
        self.leases: dict[str, Claim] = {}
        self.kept: dict[str, KeptSpec] | None = None
        """The specs that outlive the process; None: nothing does."""
        self._grown: dict[str, asyncio.Event] = {}

    def left_by_an_earlier_process(self, record: RunRecord, *events: RunEvent) -> None:
        """There is a Run without an end in the log when the process starts."""
        self.open(record)
        self.events[record.id].extend(events)
        self.earlier.append(record.id)

    async def start(self) -> None:
        pass

    async def reserve(self, record: RunRecord, spec: RunSpec | None = None) -> RunRecord | None:
        if self.reserve_failure is not None:
            raise self.reserve_failure
        if record.id in self.records:
            return self.record(record.id)
        self.records[record.id] = record
        if spec is not None:
            self.keep(spec)
        return None

    async def release(self, run_id: str) -> None:
        if run_id not in self.events:
            self.records.pop(run_id, None)

    def open(self, record: RunRecord) -> None:
        if self.open_failure is not None:
            raise self.open_failure
        if record.id in self.events:
            raise ValueError(f"run {record.id!r} has a log already")
        self.records[record.id] = record
        self.events[record.id] = []
        self._grown[record.id] = asyncio.Event()

    def lease(self, claim: Claim, until: float) -> None:
        self.leases[claim.spec.id] = claim

    def keep(self, spec: RunSpec) -> None:
        if self.kept is not None:
            self.kept.setdefault(spec.id, KeptSpec(spec, 0))

    def kept_spec(self, run_id: str) -> KeptSpec | None:
        return None if self.kept is None else self.kept.get(run_id)

    def hand_back(self, run_id: str) -> bool:
        return self.kept_spec(run_id) is not None

    def requeue(self, run_id: str) -> None:
        self.leases.pop(run_id, None)

    async def append(self, claim: Claim, events: Sequence[RunEvent]) -> int:
        held = self.leases.get(claim.spec.id)
        if held is None or (held.owner, held.attempt) != (claim.owner, claim.attempt):
            raise LeaseLost("not the run's")
        return self.put(claim.spec.id, *events)

    async def ended(self, run_id: str) -> None:
        if run_id in self.events:
            await self.end_of(run_id)

    def put(self, run_id: str, *events: RunEvent) -> int:
        told = self.events[run_id]
        for event in events:
            if told and isinstance(told[-1], TERMINAL):
                raise RuntimeError(f"run {run_id!r} has ended")
            told.append(event)
            self._grown[run_id].set()
            self._grown[run_id] = asyncio.Event()
        return len(told)

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        """Raises UnknownRun when the first events are asked for."""
        return _Following(self, run_id, after)

    def follow_kept(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        return self.follow(run_id, after)

    async def growth(self, run_id: str) -> None:
        """Wait for the Run's next event."""
        await self._grown[run_id].wait()

    async def find(self, run_id: str) -> RunRecord | None:
        return self.record(run_id) if run_id in self.records else None

    async def which_go_on(self, run_ids: Collection[str]) -> frozenset[str]:
        known = (self.record(run_id) for run_id in run_ids if run_id in self.records)
        return frozenset(record.id for record in known if not record.status.final)

    async def cursor(self, run_id: str) -> str | None:
        return run_id if run_id in self.records else None

    async def list(self, query: RunQuery) -> RunPage:
        """Newest first; there is never a second page."""
        found = [
            record
            for record in map(self.record, self.records)
            if query.session_key in (None, record.session_key)
            and query.agent_id in (None, record.agent_id)
            and query.principal_id in (None, record.principal_id)
            and query.status in (None, record.status)
        ]
        found.sort(key=lambda record: (record.accepted_at, record.id), reverse=True)
        return RunPage(tuple(found[: query.limit]))

    async def unfinished(self) -> tuple[RunRecord, ...]:
        records = map(self.record, self.earlier)
        return tuple(record for record in records if not record.status.final)

    def trouble(self) -> str | None:
        return None

    async def close(self) -> None:
        pass

    def record(self, run_id: str) -> RunRecord:
        """The Run as it stands."""
        record, events = self.records[run_id], self.events.get(run_id, [])
        for event in events:
            record = replace(record, status=status_after(event) or record.status)
            if isinstance(event, Started):
                record = replace(record, started_at=0.0)
        return replace(record, last_seq=len(events))

    async def end_of(self, run_id: str) -> RunEvent:
        """The Run's terminal event, once it has come."""
        ended = [event async for told in self.follow(run_id) for event in told.events]
        return ended[-1]


class _Following:
    """What FakeRunEvents.follow gives: all the events there are, then those that come."""

    def __init__(self, log: FakeRunEvents, run_id: str, after: int) -> None:
        self._log = log
        self._run_id = run_id
        self._seq = after

    def __aiter__(self) -> _Following:
        return self

    async def __anext__(self) -> EventBatch:
        if self._run_id not in self._log.events:
            raise UnknownRun(f"no run {self._run_id!r}")
        events = self._log.events[self._run_id]
        while self._seq >= len(events):
            if events and isinstance(events[-1], TERMINAL):
                raise StopAsyncIteration
            await self._log.growth(self._run_id)
        told = EventBatch(self._seq + 1, tuple(events[self._seq :]))
        self._seq = told.last
        return told


class FakeQueue:
    """A RunQueue and RunSignals that execute nothing and remember what they were told."""

    def __init__(self, rows: FakeRunEvents | None = None) -> None:
        self.runs: list[RunSpec] = []
        self.released: dict[str, Callable[[], None]] = {}
        self.aborted: list[tuple[str, str]] = []
        self.drained: list[float] = []
        self.refusal: Exception | None = None
        self._rows = rows or FakeRunEvents()

    async def enqueue(
        self,
        spec: RunSpec,
        *,
        fingerprint: str = "",
        once: bool = False,
        on_release: Callable[[], None] | None = None,
    ) -> Submission:
        record = record_of(spec, fingerprint=fingerprint)
        if once and (known := await self._rows.reserve(record)) is not None:
            return Submission(known, fresh=False)
        if self.refusal is not None:
            await self._rows.release(spec.id)
            raise self.refusal
        self.runs.append(spec)
        if on_release is not None:
            self.released[spec.id] = on_release
        return Submission(record, fresh=True)

    def serve(self, owner: str, worker: Worker) -> None:
        """It would have nothing to do."""

    def withdraw(self, owner: str) -> None:
        """It has nothing to do."""

    async def renew(self, owner: str, claims: Sequence[Claim]) -> Sequence[Claim]:
        return claims

    async def finish(self, claim: Claim, ending: Finished | Failed | Aborted) -> None:
        raise LeaseLost("nothing was claimed")

    async def wait(self, claim: Claim, waiting: Waiting, *, signals_read: int) -> None:
        raise LeaseLost("nothing was claimed")

    async def hand_back(self, run_id: str) -> bool:
        return False

    async def unfinished(
        self, key: SessionKey | None = None, *, waiting: bool = True, here: bool = False
    ) -> tuple[RunSpec, ...]:
        return tuple(run for run in self.runs if key is None or run.session_key == key)

    async def expired(self, owner: str, *, go_on: bool = True) -> tuple[Claim, ...]:
        return ()

    async def abort(self, run_id: str, reason: str) -> bool:
        self.aborted.append((run_id, reason))
        return any(run.id == run_id for run in self.runs)

    async def resolve(self, run_id: str, approval_id: str, decision: str) -> bool:
        return False

    async def inject(self, run_id: str, message: Message) -> bool:
        return False

    async def exclusive(
        self,
        key: SessionKey,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        patience: float,
        stop: str | None = None,
    ) -> T:
        """At once, since nothing ever runs here."""
        if stop is not None:
            for spec in reversed(await self.unfinished(key)):
                await self.abort(spec.id, stop)
        return await work()

    def refuse(self) -> None:
        self.refusal = ShuttingDown("no more")

    async def idle(self) -> None:
        """Nothing ever runs here."""

    async def drain(self, grace: float) -> None:
        self.drained.append(grace)


def target(ref: str = "acme/one", **changes: Any) -> ModelTarget:
    """A model from its `provider/model`; `api_key` goes to the provider, the rest to the target."""
    provider_id, _, model = ref.partition("/")
    key: str | None = changes.pop("api_key", None)
    provider = Provider(provider_id, api="fake", api_key=None if key is None else Secret(key))
    made = ModelTarget(provider, model)
    return replace(made, **changes)


def agent(agent_id: str = "main", *models: ModelTarget, **changes: Any) -> Agent:
    return replace(Agent(agent_id, agent_id.title(), models=models), **changes)


def run(run_id: str = "run-1", **changes: Any) -> RunSpec:
    """A Run of the agent `main` in a lasting session, which says "hello"."""
    made = RunSpec(
        id=run_id,
        agent_id="main",
        session_key=SessionKey("main", "talk"),
        principal_id="operator",
        messages=(user("hello"),),
    )
    return replace(made, **changes)


def settings(agents: Iterable[Agent] = (), **changes: Any) -> Settings:
    """Settings with token authentication ("secret"); the agents are `main` and `beta`."""
    directory = AgentDirectory(agents or (agent("main"), agent("beta")), "main")
    made = Settings(directory, AuthSettings(AuthMode.TOKEN, Secret("secret")))
    return replace(made, **changes)


def answered(text: str = "hi", stop: StopReason = StopReason.STOP) -> Answered:
    return Answered((assistant(text),), stop, Usage(5, 2), "acme/one")


def user(text: str) -> Message:
    return text_message(Role.USER, text)


def assistant(text: str) -> Message:
    return text_message(Role.ASSISTANT, text)


def system(text: str) -> Message:
    return text_message(Role.SYSTEM, text)
