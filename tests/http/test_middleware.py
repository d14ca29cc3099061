"""The wrapper around the application, by itself: what passes, what is cut, what is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from opensoul.adapters.transports import RouteTable
from opensoul.adapters.transports.answering.runs import Feed, streamed
from opensoul.adapters.transports.http.context import RequestContext, current
from opensoul.adapters.transports.http.deadline import ReusableDeadline
from opensoul.adapters.transports.http.middleware import Middleware
from opensoul.adapters.transports.openai.chat.answers import Frames, Head
from opensoul.domain.access.addresses import ClientAddress
from opensoul.domain.errors import Unauthenticated
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.runs.events import RunEvent

from .app import Harness
from .conftest import AccessLog
from .test_streams import told

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/x",
    "headers": [],
    "client": None,
}


async def nothing() -> dict[str, Any]:
    return {"type": "http.request"}


class Wire:
    """The server's side: remembers what it was told to send."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self._trouble = trouble

    async def send(self, message: dict[str, Any]) -> None:
        if self._trouble is not None:
            raise self._trouble
        self.sent.append(message)


async def test_what_is_not_http_passes_untouched() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    wire = Wire()
    scope: dict[str, Any] = {"type": "websocket", "headers": []}
    await Middleware(app, Harness().gateway, RouteTable())(scope, nothing, wire.send)

    assert seen == [(scope, nothing, wire.send)]


async def test_a_servers_own_timeout_is_not_taken_for_a_client_that_stalls(
    access_log: AccessLog,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    with pytest.raises(TimeoutError):
        await Middleware(app, Harness().gateway, RouteTable())(
            dict(SCOPE), nothing, Wire(TimeoutError()).send
        )

    assert (await access_log.line())["outcome"] == "answered"


async def test_what_was_entered_is_left_however_the_exchange_ends() -> None:
    let_go = asyncio.Event()

    @asynccontextmanager
    async def held() -> AsyncIterator[None]:
        try:
            yield
        finally:
            let_go.set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await current().enter(held())
        await asyncio.Event().wait()

    middleware = Middleware(app, Harness().gateway, RouteTable())
    running = asyncio.create_task(middleware(dict(SCOPE), nothing, Wire().send))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert let_go.is_set()


async def test_headers_that_the_application_set_win_over_the_usual_ones() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        head = [(b"cache-control", b"max-age=5")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await receive()
        await send({"type": "http.response.body", "body": b"x"})

    wire = Wire()
    await Middleware(app, Harness().gateway, RouteTable())(dict(SCOPE), nothing, wire.send)

    names = [name for name, _ in wire.sent[0]["headers"]]
    assert names.count(b"cache-control") == 1
    assert b"server-timing" not in names
    assert wire.sent[1]["body"] == b"x"


async def test_an_alarm_rings_only_when_nobody_winds_it() -> None:
    rung: list[str] = []
    heard = asyncio.Event()
    resting = ReusableDeadline(0.001, lambda: rung.append("resting"))
    stopped = ReusableDeadline(0.001, lambda: rung.append("stopped"))
    wound = ReusableDeadline(0.01, heard.set)
    for alarm in (resting, stopped, wound):
        alarm.arm()
        alarm.arm()
    resting.disarm()
    stopped.stop()
    stopped.stop()

    async with asyncio.timeout(10):
        await heard.wait()

    assert rung == []
    wound.stop()


def test_nobody_is_taken_for_somebody() -> None:
    with pytest.raises(Unauthenticated):
        _ = RequestContext("r", ClientAddress("127.0.0.1")).principal


class Broken(Frames):
    """Frames of which the second cannot be made."""

    def of(self, events: Sequence[RunEvent], first: int) -> bytes:
        told = list(events)
        if told != [TextDelta("x")]:
            raise ZeroDivisionError(f"secret detail about {told}")
        return super().of(told, first)


async def test_a_stream_that_breaks_inside_says_only_that_it_broke(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = RequestContext("r", ClientAddress("127.0.0.1"))
    head = Head("chatcmpl_1", 1, "opensoul")
    events = told([TextDelta("x")], [TextDelta("y")])
    feed = Feed(events, Broken(head, include_usage=False), context, patience=10)
    response = await streamed(feed, context)

    body = await response.get_data(as_text=False)

    assert b'"content":"x"' in body
    assert b'"code":"internal_error"' in body
    assert b"secret detail" not in body
    assert "a stream failed unexpectedly" in caplog.text
    assert context.outcome == "failed"
