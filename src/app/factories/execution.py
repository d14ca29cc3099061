"""Execution of runs: the queue, approvals, sessions, the executor, the gateway."""

from __future__ import annotations

from collections.abc import Mapping

from ...adapters.persistence.memory import MemoryRunEvents
from ...adapters.persistence.queue import Lanes, LocalQueue
from ...adapters.persistence.sqlite.runs import SqliteRunEvents
from ...domain.execution import Compactor, Executor, Generations, ModelRouter, TurnLoop
from ...domain.ports import (
    AgentRunner,
    ApprovalBook,
    Clock,
    CurrentSettings,
    NewId,
    NodeBus,
    ResponseBook,
    RunEvents,
    RunQueue,
    RunSignals,
    SessionCatalog,
    SessionStore,
)
from ...domain.services import (
    Access,
    AgentSessions,
    Approvals,
    Gateway,
    Quotas,
    Responses,
    SessionService,
    TokenCounts,
)
from ..late import Late
from ..shared import SharedStores, WorkQueue
from ..shared_configuration import ConfigurationWatch


def lanes(settings: CurrentSettings) -> Lanes:
    return Lanes(lambda: settings().lanes)


def work_queue(
    run_events: RunEvents,
    lanes: Lanes,
    clock: Clock,
    monotonic: Clock,
    shared: SharedStores | None,
) -> WorkQueue:
    """The queue of the runs whose events are in `run_events`. Raises TypeError for events that no
    queue here can order."""
    if shared is not None:
        return shared.queue
    if not isinstance(run_events, MemoryRunEvents | SqliteRunEvents):
        raise TypeError(f"no queue for {type(run_events).__name__}")
    return LocalQueue(rows=run_events, lanes=lanes, clock=clock, steady=monotonic)


def queue(work_queue: WorkQueue) -> RunQueue:
    return work_queue


def signals(work_queue: WorkQueue) -> RunSignals:
    return work_queue


def approvals(
    stored_approvals: ApprovalBook,
    queue: RunQueue,
    signals: RunSignals,
    run_events: RunEvents,
    clock: Clock,
    bus: NodeBus,
) -> Approvals:
    return Approvals(
        book=stored_approvals,
        queue=queue,
        signals=signals,
        run_events=run_events,
        clock=clock,
        bus=bus,
    )


def responses(
    stored_responses: ResponseBook,
    settings: CurrentSettings,
    catalog: SessionCatalog,
    queue: RunQueue,
    clock: Clock,
    new_id: NewId,
) -> Responses:
    return Responses(
        book=stored_responses,
        settings=settings,
        catalog=catalog,
        queue=queue,
        clock=clock,
        new_id=new_id,
    )


def approval_book(approvals: Approvals) -> ApprovalBook:
    """The book that runners request approvals with, so that clients are informed of them."""
    return approvals.book


def generations(
    settings: CurrentSettings, configuration_watch: ConfigurationWatch | None
) -> Generations:
    return Generations(settings, None if configuration_watch is None else configuration_watch.look)


def executor(
    runners: Mapping[str, AgentRunner],
    store: SessionStore,
    catalog: SessionCatalog,
    work_queue: WorkQueue,
    run_events: RunEvents,
    settings: CurrentSettings,
    generations: Generations,
    clock: Clock,
    bus: NodeBus,
    new_id: NewId,
    quotas: Quotas,
) -> Executor:
    return Executor(
        owner=bus.node_id,
        runners=runners,
        store=store,
        catalog=catalog,
        queue=work_queue,
        signals=work_queue,
        run_events=run_events,
        settings=settings,
        generations=generations,
        clock=clock,
        new_id=new_id,
        lease=work_queue.lease,
        outage=work_queue.outage,
        on_stop=quotas.stopped,
    )


def gateway(
    settings: CurrentSettings,
    generations: Generations,
    access: Access,
    queue: RunQueue,
    signals: RunSignals,
    executor: Executor,
    run_events: RunEvents,
    catalog: SessionCatalog,
    clock: Clock,
    new_id: NewId,
    late_gateway: Late[Gateway],
    quotas: Quotas,
    shared: SharedStores | None,
) -> Gateway:
    gateway = Gateway(
        settings=settings,
        generations=generations,
        access=access,
        queue=queue,
        signals=signals,
        executor=executor,
        run_events=run_events,
        catalog=catalog,
        clock=clock,
        new_id=new_id,
        quotas=quotas,
        watchers=None if shared is None else shared.watchers,
    )
    late_gateway.bind(gateway)
    return gateway


def session_service(
    settings: CurrentSettings,
    store: SessionStore,
    catalog: SessionCatalog,
    queue: RunQueue,
    router: ModelRouter,
    clock: Clock,
    new_id: NewId,
    shared: SharedStores | None,
) -> SessionService:
    return SessionService(
        settings=settings,
        store=store,
        catalog=catalog,
        queue=queue,
        compactor=Compactor(router, clock=clock),
        clock=clock,
        new_id=new_id,
        summary_locks=None if shared is None else shared.summary_locks,
    )


def agent_sessions(
    late_gateway: Late[Gateway],
    session_service: SessionService,
    catalog: SessionCatalog,
    queue: RunQueue,
    run_events: RunEvents,
    settings: CurrentSettings,
) -> AgentSessions:
    return AgentSessions(
        gateway=late_gateway,
        session_service=session_service,
        catalog=catalog,
        queue=queue,
        run_events=run_events,
        settings=settings,
    )


def token_counts(gateway: Gateway, native: TurnLoop) -> TokenCounts:
    return TokenCounts(gateway=gateway, native=native)
