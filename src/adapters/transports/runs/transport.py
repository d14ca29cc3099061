"""`/v1/runs`: the runs of all transports, listed, followed and cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial

from quart import Response, request

from ....domain.access import Scope
from ....domain.errors import EventsExpired, InvalidRequest
from ....domain.runs import EventBatch, RunQuery, RunRecord, RunStatus
from ....domain.services import MAX_RUNS_LISTED, Events, Gateway
from ..answering import EVENT_STREAM, Feed, streamed, text_of
from ..http.context import RequestContext, current
from ..http.json_text import dumps
from ..routes import Route, Transport
from ..switches import RUNS_SWITCH, answer_limits
from . import operations
from .events import EventFrames, run_object

_LIMIT = 50
_FILTERS = ("limit", "after", "status", "agent_id", "session_key")
_FOLLOWING = ("after",)
_MOST_DIGITS = 18
_CANCEL_PATIENCE = 5.0
"""Seconds in which a run that is cancelled nearly always ends."""


def transport(gateway: Gateway) -> Transport:
    """The routes."""
    endpoint = _Endpoint(gateway)
    route = partial(Route, limits=answer_limits, switch=RUNS_SWITCH)
    all_ = "/v1/runs"
    one, events, cancel = (f"{all_}/<run_id>{rest}" for rest in ("", "/events", "/cancel"))
    listed, found = "Runs, the newest first.", "One run."
    followed, stopped = "The events of a run, as server-sent events.", "Stop a run."
    of = operations
    return Transport(
        "runs",
        (
            route(
                all_, "GET", Scope.READ, endpoint.list, listed, operation=of.list_, errors=(404,)
            ),
            route(one, "GET", Scope.READ, endpoint.get, found, operation=of.get),
            route(
                *(events, "GET", Scope.READ, endpoint.events, followed),
                operation=of.events,
                errors=(410,),
            ),
            route(cancel, "POST", Scope.WRITE, endpoint.cancel, stopped, operation=of.cancel),
        ),
    )


class _Endpoint:
    """The views."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list(self) -> Response:
        principal = current().principal
        args = request.args
        _check_names(args, _FILTERS)
        status, key, agent = args.get("status"), args.get("session_key"), args.get("agent_id")
        limit = _number("limit", args.get("limit", str(_LIMIT)))
        if not 1 <= limit <= MAX_RUNS_LISTED:
            raise InvalidRequest(f"`limit` must be 1 to {MAX_RUNS_LISTED}.", param="limit")
        after = args.get("after")
        query = RunQuery(
            session_key=None if key is None else self._gateway.session_key(key, agent_id=agent),
            agent_id=None if agent is None else agent.lower(),
            status=None if status is None else _status(status),
            limit=limit,
            cursor=None if after is None else await self._gateway.cursor(principal, after),
        )
        page = await self._gateway.runs(principal, query)
        data = [run_object(record) for record in page.runs]
        return _json(
            {
                "object": "list",
                "data": data,
                "first_id": page.runs[0].id if page.runs else None,
                "last_id": page.runs[-1].id if page.runs else None,
                "has_more": page.next_cursor is not None,
            }
        )

    async def get(self, run_id: str) -> Response:
        _check_names(request.args)
        return _json(run_object(await self._gateway.run(current().principal, run_id)))

    async def cancel(self, run_id: str) -> Response:
        principal = current().principal
        _check_names(request.args)
        record = await self._gateway.run(principal, run_id)
        if not record.status.final:
            await self._gateway.abort(principal, record.id, f"Cancelled by {principal.id}.")
            record = await self._gateway.wait(principal, record.id, _CANCEL_PATIENCE)
        return _json({"id": record.id, "status": record.status.value})

    async def events(self, run_id: str) -> Response:
        context = current()
        _check_names(request.args, _FOLLOWING)
        record = await self._gateway.run(context.principal, run_id)
        after = _behind(record, context)
        if request.method == "HEAD":
            return Response(content_type=EVENT_STREAM)
        try:
            # From the first event, since the terminal event repeats the whole text.
            return await self._follow(context, record, after, first=0)
        except EventsExpired:
            if not after:
                raise
            return await self._follow(context, record, after, first=after)

    async def _follow(
        self, context: RequestContext, record: RunRecord, after: int, *, first: int
    ) -> Response:
        events: Events = await context.enter(
            self._gateway.follow(context.principal, record, first, kept=True, stops=False)
        )
        context.adopt_task()
        context.log_fields |= {"run": record.id, "stream": True}
        frames = EventFrames(record, after)
        if first:
            events = _WithText(events, frames, partial(self._text, context, record))
        feed = Feed(events, frames, context, patience=self._gateway.settings.chat.keepalive)
        return await streamed(feed, context)

    async def _text(self, context: RequestContext, record: RunRecord) -> str | None:
        turn = await self._gateway.turn(context.principal, record)
        return None if turn is None else text_of(turn)


class _WithText:
    """Events of which the first ones are no longer kept: the text comes from the stored turn."""

    def __init__(
        self, events: Events, frames: EventFrames, text: Callable[[], Awaitable[str | None]]
    ) -> None:
        self._events = events
        self._frames = frames
        self._text = text
        self._last: EventBatch | None = None
        """The last batch, while the text is read: waiting for it may be given up."""

    def __aiter__(self) -> _WithText:
        return self

    async def __anext__(self) -> EventBatch:
        batch = self._last
        if batch is None:
            batch = await anext(self._events)
        if batch.ending is not None:
            self._last = batch
            self._frames.whole = await self._text()
            self._last = None
        return batch


def _behind(record: RunRecord, context: RequestContext) -> int:
    """The number of the event behind which the client goes on. `Last-Event-ID` wins over `after`:
    a client that connects again by itself repeats the path that it began with."""
    header = context.headers.get(b"last-event-id", b"").decode("utf-8", "replace").strip()
    name, text = "Last-Event-ID", header
    if not header:
        name, text = "after", request.args.get("after", "0")
    run_id, _, number = text.rpartition(":")
    if run_id and run_id != record.id:
        raise InvalidRequest(f"`{name}` names an event of another run.", param=name)
    after = _number(name, number)
    if after <= record.last_seq:
        return after
    if record.status.final:
        return record.last_seq - 1  # It was sent events that were lost with the process.
    raise InvalidRequest(
        f"`{name}` is event {after}, but the last event is {record.last_seq}.", param=name
    )


def _check_names(args: Iterable[str], known: Collection[str] = ()) -> None:
    for name in args:
        if name not in known:
            allowed = ", ".join(f"`{one}`" for one in known)
            those = f"those of this path are {allowed}" if known else "this path has none"
            raise InvalidRequest(f"There is no query parameter `{name}`; {those}.", param=name)


def _number(name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    raise InvalidRequest(f"`{name}` must be a whole number from 0.", param=name)


def _status(text: str) -> RunStatus:
    try:
        return RunStatus(text)
    except ValueError:
        allowed = ", ".join(RunStatus)
        raise InvalidRequest(f"`status` must be one of {allowed}.", param="status") from None


def _json(body: Mapping[str, object]) -> Response:
    return Response(dumps(body), content_type="application/json")
