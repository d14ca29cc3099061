"""`/v1/responses/{id}`: stored responses, and those that go on in the background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from quart import Response, request

from .....domain.access import Scope
from .....domain.errors import (
    EventsExpired,
    GatewayError,
    InvalidRequest,
    NotInBackground,
    StoreFailed,
    UnknownRun,
)
from .....domain.responses import StoredResponse
from .....domain.runs import RunEvent
from ...answering import EVENT_STREAM, Feed, streamed
from ...http import Problem
from ...http.context import RequestContext, current
from ...http.errors import problem_of
from ...http.json_text import dumps
from ...routes import Route
from ...switches import RESPONSES_SWITCH, answer_limits
from . import operations_of_stored as operations
from .frames import Frames
from .items import item_query, list_object, page_of
from .state import ResponseState, frames_of

_MOST_DIGITS = 18
_CANCEL_PATIENCE = 5.0
"""Seconds in which a run that is cancelled nearly always ends."""
_PATH = "/v1/responses/<string(minlength=13):response_id>"
"""Ids have 37 characters, more than `compact` and `input_tokens`, which are paths of their own:
their methods are POST alone, also in the header `Allow`."""


def routes(state: ResponseState) -> tuple[Route, ...]:
    """The routes for responses that are stored."""
    endpoint = _Endpoint(state)
    route = partial(Route, limits=answer_limits, switch=RESPONSES_SWITCH)
    write, read = Scope.WRITE, Scope.READ
    found, deleted = "A stored response, or its events.", "Delete a stored response."
    cancelled, listed = "Cancel a response in the background.", "The input of a stored response."
    of = operations
    return (
        route(_PATH, "GET", read, endpoint.get, found, operation=of.get, errors=(404, 410)),
        route(_PATH, "DELETE", write, endpoint.delete, deleted, operation=of.delete, errors=(404,)),
        route(
            *(f"{_PATH}/cancel", "POST", write, endpoint.cancel, cancelled),
            operation=of.cancel,
            errors=(404,),
        ),
        route(
            *(f"{_PATH}/input_items", "GET", read, endpoint.input_items, listed),
            operation=of.input_items,
            errors=(404,),
        ),
    )


class _Endpoint:
    """The views."""

    def __init__(self, state: ResponseState) -> None:
        self._state = state
        self._gateway = state.gateway
        self._responses = state.responses

    async def get(self, response_id: str) -> Response:
        context = current()
        response = await self._responses.find(context.principal, response_id)
        streams, after = _flag("stream"), _starting_after()
        if not streams:
            return _json(await self._state.object_of(context, response))
        if request.method == "HEAD":
            return Response(content_type=EVENT_STREAM)
        return await self._stream(context, response, after)

    async def delete(self, response_id: str) -> Response:
        context = current()
        response = await self._responses.deletable(context.principal, response_id)
        await self._stop(context, response)
        if response.conversation and not response.settled:
            await self._state.settle(context, response.conversation)
        await self._responses.forget(response)
        return _json({"id": response.id, "object": "response", "deleted": True})

    async def cancel(self, response_id: str) -> Response:
        context = current()
        response = await self._responses.find(context.principal, response_id)
        if not response.background:
            raise NotInBackground("Cannot cancel a synchronous response.", param="response_id")
        await self._stop(context, response)
        return _json(await self._state.object_of(context, response))

    async def input_items(self, response_id: str) -> Response:
        response = await self._responses.find(current().principal, response_id)
        return _json(list_object(page_of(response.input, item_query())))

    async def _stop(self, context: RequestContext, response: StoredResponse) -> None:
        """Stop its run, if that goes on."""
        principal = context.principal
        try:
            run = await self._gateway.run(principal, response.run_id)
        except UnknownRun:
            return
        if not run.status.final:
            await self._gateway.abort(principal, run.id, f"Cancelled by {principal.id}.")
            await self._gateway.wait(principal, run.id, _CANCEL_PATIENCE)

    async def _stream(
        self, context: RequestContext, response: StoredResponse, after: int
    ) -> Response:
        """The events behind the one numbered `after`, from those of the run. Raises EventsExpired
        where these are no longer kept."""
        try:
            run = await self._gateway.run(context.principal, response.run_id)
        except UnknownRun:
            raise EventsExpired(f"The events of {response.id} are no longer kept.") from None
        events = await context.enter(
            self._gateway.follow(context.principal, run, kept=True, stops=False)
        )
        context.adopt_task()
        context.log_fields |= {"run": run.id, "stream": True}

        def ended_at() -> float:
            return run.ended_at or self._state.clock()

        written = frames_of(response, clock=ended_at)
        frames = _Behind(written, after)
        patience = self._gateway.settings.chat.keepalive
        try:
            return await streamed(Feed(events, frames, context, patience=patience), context)
        except (EventsExpired, StoreFailed):
            raise
        except GatewayError as error:  # The run has failed before there was an event.
            return Response(frames.failure(problem_of(error)), content_type=EVENT_STREAM)


class _Behind:
    """The frames behind the one numbered `after`."""

    __slots__ = ("_after", "_frames", "_next", "ended")

    def __init__(self, frames: Frames, after: int) -> None:
        self._frames = frames
        self._after = after
        self._next = 0
        """The number of the next frame."""
        self.ended = False

    def of(self, events: Sequence[RunEvent], first: int) -> bytes:
        frames = self._frames.of(events, first)
        self.ended = self._frames.ended
        return self._left(frames)

    def failure(self, problem: Problem) -> bytes:
        return self._left(self._frames.failure(problem))

    def _left(self, frames: bytes) -> bytes:
        if self._next > self._after:
            return frames
        single = frames.split(b"\n\n")[:-1]
        left = max(0, self._after + 1 - self._next)
        self._next += len(single)
        return b"".join(frame + b"\n\n" for frame in single[left:])


def _flag(name: str) -> bool:
    value = request.args.get(name, "false").lower()
    if value not in ("true", "false"):
        raise InvalidRequest(f"`{name}` must be true or false.", param=name)
    return value == "true"


def _starting_after() -> int:
    """-1: from the first event."""
    text = request.args.get("starting_after")
    if text is None:
        return -1
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    message = "`starting_after` must be the number of an event, a whole number from 0."
    raise InvalidRequest(message, param="starting_after")


def _json(body: Mapping[str, object]) -> Response:
    return Response(dumps(body), content_type="application/json")
