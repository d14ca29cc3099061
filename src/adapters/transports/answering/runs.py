"""The run of a request, and its answer: complete, or as a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from quart import Response

from ....domain.byte_budget import held_bytes
from ....domain.concurrency import drop_tracebacks
from ....domain.errors import GatewayError, InvalidRequest, RunFailed, RunInterrupted
from ....domain.immutable import immutable
from ....domain.messages import ToolCall
from ....domain.models import ReasoningDelta, TextDelta
from ....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TERMINAL,
    Aborted,
    ClientCalls,
    EventBatch,
    Failed,
    Finished,
    Resumed,
    RunEvent,
    RunRequest,
    RunSpec,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    consumes,
    error_of,
)
from ....domain.services import Events, Following, Gateway
from ..http import Problem
from ..http.context import RequestContext
from ..http.errors import INTERNAL_ERROR, problem_of
from .approvals import ApprovalPause
from .headers import as_headers, session_headers


async def start_run(
    gateway: Gateway, context: RequestContext, run_request: RunRequest
) -> tuple[RunSpec, Following]:
    """The accepted run, which every answer of the request names from here on, and its events.
    When the request ends, the run has lost its follower. Raises what `Gateway.submit` raises."""
    principal = context.principal
    context.charge.raise_to(held_bytes(run_request.messages))
    try:
        run = await gateway.submit(principal, run_request, charge=context.charge)
    except InvalidRequest as error:
        raise as_headers(error, context.headers) from None
    # No await that suspends in between: a run is aborted when its last follower ends, and one
    # that never had a follower would go on without a client.
    events = await context.enter(gateway.follow(principal, run))
    context.adopt_task()
    context.began(run, run_request.model)
    context.response_headers |= session_headers(run, run_request)
    if run.side_task:
        context.log_fields["side_task"] = run.side_task
    return run, events


@immutable(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    text: str
    reasoning: str
    finished: Finished
    calls: tuple[ToolCall, ...] = ()
    """Calls of the client's tools."""
    refusal: str = ""
    """The end of the text, where the model says why it does not answer."""


@consumes(
    *DELTAS,
    ClientCalls,
    StepDone,
    Resumed,
    *TERMINAL,
    ignores=(Started, Waiting, ToolStarted, ToolProgress, ToolFinished, *CONTEXT_EVENTS),
)
async def collect(
    events: Events, context: RequestContext, pause: ApprovalPause | None = None
) -> Answer:
    """The run's answer, once it is complete, or `pause` ends it. Raises the GatewayError that the
    run ended with."""
    text: list[str] = []
    refusal = ""
    reasoning: list[str] = []
    calls: tuple[ToolCall, ...] = ()
    stored = (0, 0)
    """How many pieces of both were said in steps that are stored."""
    async for batch in events:
        context.observe(batch)
        all_events = batch.events
        if pause is not None and all_events[-1].__class__ is Waiting:
            all_events = (*all_events, *await pause.end(batch))
        for event in all_events:
            match event:
                case TextDelta(text=piece):
                    text.append(piece)
                    refusal = refusal + piece if event.refusal else ""
                case ReasoningDelta(text=piece):
                    reasoning.append(piece)
                case ClientCalls():
                    calls = event.calls
                case Finished():
                    return Answer("".join(text), "".join(reasoning), event, calls, refusal)
                case StepDone():
                    stored = (len(text), len(reasoning))
                case Resumed(void=void):
                    calls, refusal = (), ""
                    if void:  # What the earlier attempt said after its last step.
                        del text[stored[0] :], reasoning[stored[1] :]
                case Failed() | Aborted():
                    raise error_of(event)
    raise RunFailed("The events of the run ended before a terminal event.")


def sent_text_is_void() -> RunInterrupted:
    """The end of a stream that cannot take back what it has sent."""
    return RunInterrupted(
        "The run was interrupted after a part of its answer was sent, and begun again. For the"
        " whole answer repeat the request with the same Idempotency-Key, or read the events of the"
        " run."
    )


KEEPALIVE = b": keepalive\n\n"
KEEPALIVE_LINE = b": keepalive\n"
"""Behind the first `id:` line. OpenAI's client for Python keeps the last id, and takes every empty
line from there on for the end of an event, which it cannot read where it has no data."""


class RunFrames(Protocol):
    """Writes the frames of one run in one format."""

    ended: bool
    """The last frame was written."""

    def of(self, events: Sequence[RunEvent], first: int) -> bytes:
        """The frames for `events`, the first of which has the number `first`; empty where the
        format has none for them."""

    def failure(self, problem: Problem) -> bytes:
        """The last frames of a stream that failed."""


class Feed:
    """What there is of a run's events is taken at once: a client that lags gets fewer and larger
    pieces, and what it has not taken waits in the run's log. `patience` is in seconds. `pause` ends
    the stream where the run waits for an approval.
    """

    __slots__ = ("_context", "_events", "_failure", "_frames", "_patience", "_pause", "_waiting")

    def __init__(
        self,
        events: Events,
        frames: RunFrames,
        context: RequestContext,
        *,
        patience: float,
        pause: ApprovalPause | None = None,
    ) -> None:
        self._events = events
        self._frames = frames
        self._context = context
        self._patience = patience
        self._pause = pause
        self._waiting: EventBatch | None = None
        """A batch that `pause` has not dealt with: the silence may end while it does."""
        self._failure: GatewayError | None = None

    async def take(self) -> bytes | None:
        """The frames there are, or the next ones; empty at the end, None after `patience` seconds
        of silence. Raises, once all frames are taken, what the run's events ended with."""
        frames = b""
        try:
            async with asyncio.timeout(self._patience) as silence:
                while not frames and not self._frames.ended:
                    frames = await self._next()
        except TimeoutError:
            if not silence.expired():
                raise
            return None
        return frames

    def failure(self, problem: Problem) -> bytes:
        """The last frames, which report `problem`."""
        return self._frames.failure(problem)

    async def _next(self) -> bytes:
        """The frames of the next events; empty if the format has none for them."""
        if self._failure is not None:
            raise self._failure
        if self._waiting is not None:
            return await self._next_waiting(self._waiting)
        try:
            batch = await anext(self._events)
        except StopAsyncIteration:
            raise RunFailed("The run ended without an end.") from None
        self._context.observe(batch)
        if isinstance(ending := batch.ending, Failed | Aborted):
            self._failure = error_of(ending)
        elif self._pause is not None and batch.events[-1].__class__ is Waiting:
            self._waiting = batch
            return await self._next_waiting(batch)
        return self._frames.of(batch.events, batch.first)

    async def _next_waiting(self, batch: EventBatch) -> bytes:
        end = () if self._pause is None else await self._pause.end(batch)
        self._waiting = None
        frames = self._frames.of(batch.events, batch.first)
        if end:  # The run has no such events: the last one is numbered as the run's last.
            frames += self._frames.of(end, batch.last - len(end) + 1)
        return frames


logger = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream; charset=utf-8"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""The second one keeps nginx from collecting the stream."""


async def streamed(feed: Feed, context: RequestContext) -> Response:
    """The response, once there is a frame, or after the feed's patience.

    Raises the GatewayError of a run that fails before: its status can still be a true one.
    """
    first = await feed.take()
    context.streaming = True
    response = Response(
        _body(feed, first, context),
        headers=_HEADERS,
        content_type=EVENT_STREAM,
    )
    response.timeout = None
    return response


async def _body(feed: Feed, first: bytes | None, context: RequestContext) -> AsyncGenerator[bytes]:
    frames = first
    keepalive = KEEPALIVE
    while frames is None or frames:
        if frames is None:
            yield keepalive
        else:
            yield frames
            keepalive = KEEPALIVE_LINE
        try:
            frames = await feed.take()
        except GatewayError as error:
            problem = problem_of(error)
            drop_tracebacks(error)
        except Exception as error:
            # The outermost handler of a stream: nothing after it could send the client an error.
            logger.exception("a stream failed unexpectedly", extra={"request": context.request_id})
            problem = INTERNAL_ERROR
            drop_tracebacks(error)
        else:
            continue
        context.reported(problem)
        yield feed.failure(problem)
        return
