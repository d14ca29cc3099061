"""The state of one HTTP request, from its first byte to the last byte of its response."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ....domain.access import ClientAddress, Principal
from ....domain.byte_budget import NO_CHARGE, Charge
from ....domain.concurrency import drop_traceback_of
from ....domain.errors import Unauthenticated
from ....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TERMINAL,
    TOOL_EVENTS,
    Aborted,
    EventBatch,
    Failed,
    Finished,
    Resumed,
    RunRecord,
    RunSpec,
    Started,
    StepDone,
    Waiting,
    consumes,
)
from ..routes import Limits
from .errors import Problem
from .requests import Headers

T = TypeVar("T")

_NO_ROUTE = Limits()


@dataclass(slots=True, eq=False)
class RequestContext:
    """A request in flight. Handlers put here what goes into the answer's head and into the access
    log, and `enter` context managers that are left when the request ends, however it ends."""

    request_id: str
    client: ClientAddress
    limits: Limits = _NO_ROUTE
    """Those of the route, once it is known."""
    headers: Headers = field(default_factory=dict)
    """Those of the request."""
    started: float = field(default_factory=time.perf_counter)
    authenticated: Principal | None = None
    response_headers: dict[str, str] = field(default_factory=dict)
    """Added to every answer, also to refusals."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds, by their names in Server-Timing."""
    log_fields: dict[str, object] = field(default_factory=dict)
    """Written into the access log as they are: no content, no secret."""
    outcome: str | None = None
    streaming: bool = False
    discarding: bool = False
    """The rest of the request's body is discarded."""
    status: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    stalled: bool = False
    """The client did not read its response in time."""
    left: bool = False
    """The client disconnected before the response was complete."""
    charge: Charge = NO_CHARGE
    """For the bytes of its body."""
    _entered: list[AbstractAsyncContextManager[Any]] = field(default_factory=list)
    _tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        """Seconds since the request came in."""
        return time.perf_counter() - self.started

    @property
    def principal(self) -> Principal:
        """The principal that sent the request. Raises Unauthenticated if there is none."""
        if self.authenticated is None:
            raise Unauthenticated("Nobody has been authenticated.")
        return self.authenticated

    def adopt_task(self) -> None:
        """Have `end` stop the current task.

        The framework handles a request in tasks of its own, which continue when the server cancels
        the request.
        """
        task = asyncio.current_task()
        if task is not None:
            self._tasks.append(task)

    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter a context manager that is left when the request ends, the last one first."""
        entered = await manager.__aenter__()
        self._entered.append(manager)
        return entered

    async def end(self) -> None:
        """Stop the adopted tasks and leave what was entered. None of it is referred to afterwards:
        a task refers to its error, and that to the frames that refer to this."""
        # Made now, since it takes room, and a stream may last for long.
        async with AsyncExitStack() as stack:
            for manager in self._entered:
                stack.push_async_exit(manager)
            self._entered.clear()
            await self._stop_tasks()
            while self._tasks:
                if (task := self._tasks.pop()).done():
                    drop_traceback_of(task)

    async def _stop_tasks(self) -> None:
        """Return when the adopted tasks have ended, after cancelling them. Their results are
        ignored."""
        left = [t for t in self._tasks if not t.done() and t is not asyncio.current_task()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)

    def began(self, run: RunSpec | RunRecord, model: str) -> None:
        """Name `run` in the response headers and in the access log."""
        key = str(run.session_key)
        self.log_fields |= {"run": run.id, "agent": run.agent_id, "session": key, "model": model}
        self.response_headers |= {
            "x-opensoul-session-key": key,
            "x-opensoul-run-id": run.id,
            "x-opensoul-agent-id": run.agent_id,
        }

    @consumes(
        Started,
        *DELTAS,
        *TERMINAL,
        ignores=(Waiting, Resumed, *TOOL_EVENTS, *CONTEXT_EVENTS, StepDone),
    )
    def observe(self, batch: EventBatch) -> None:
        """Take timings and the outcome from a batch of the run's events. Only its first and its
        last event can be anything but tokens."""
        events = batch.events
        for event in events if len(events) < 3 else (events[0], events[-1]):
            match event:
                case Started(queued=queued, history=history):
                    self.timings |= {"queue": queued, "history": history}
                case Finished(model=model):
                    self.outcome = "answered"
                    self.log_fields["answered_by"] = model
                case Failed(code=code):
                    self.outcome = "failed"
                    self.log_fields["code"] = code
                case Aborted():
                    self.outcome = "aborted"
        if "first-token" not in self.timings and any(isinstance(e, DELTAS) for e in events):
            self.timings["first-token"] = self.elapsed

    def reported(self, problem: Problem) -> None:
        """Log that the client was sent `problem`."""
        self.log_fields["code"] = problem.code
        if self.outcome is None:
            self.outcome = "failed" if problem.status >= 500 else "refused"


CURRENT: ContextVar[RequestContext] = ContextVar("opensoul.request_context")


def current() -> RequestContext:
    """The RequestContext of the request being handled."""
    return CURRENT.get()


def principal() -> Principal:
    """The principal of the request being handled. Raises Unauthenticated if there is none."""
    return current().principal
