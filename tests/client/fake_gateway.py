"""A small Gateway for the client's tests: it works, remembers, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

TOKEN = "a token of the tests"
SESSION = "agent:main:main"
Reply = dict[str, Any]


def started() -> Reply:
    return {"stream": "lifecycle", "data": {"phase": "start"}}


def text(delta: str) -> Reply:
    return {"stream": "assistant", "data": {"delta": delta}}


def finished() -> Reply:
    data = {"phase": "end", "stopReason": "stop", "model": "fake/m", "usage": {"total": 3}}
    return {"stream": "lifecycle", "data": data}


def aborted(reason: str = "Stopped.") -> Reply:
    return {"stream": "lifecycle", "data": {"phase": "end", "aborted": True, "reason": reason}}


def failed(message: str) -> Reply:
    return {"stream": "lifecycle", "data": {"phase": "error", "error": message, "code": "x"}}


class FakeRun:
    """A run's events so far; they are numbered from 1."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.events: list[Reply] = []
        self._news = asyncio.Condition()

    async def tell(self, *events: Reply) -> None:
        async with self._news:
            for event in events:
                told = {"runId": self.id, "seq": len(self.events) + 1, "sessionKey": SESSION}
                self.events.append(told | event)
            self._news.notify_all()

    @property
    def ended(self) -> bool:
        last = self.events[-1] if self.events else {}
        return last.get("stream") == "lifecycle" and last["data"].get("phase") in ("end", "error")

    async def after(self, seq: int) -> AsyncIterator[Reply]:
        while True:
            while seq < len(self.events):
                yield self.events[seq]
                seq += 1
            if self.ended:
                return
            async with self._news:
                while seq == len(self.events):
                    await self._news.wait()


@dataclass
class FakeGateway:
    """`refusal`: the error frame that `connect` gets. `before_answer`: is called with a socket
    and a method before that request is answered; what is True leaves it unanswered."""

    refusal: Reply | None = None
    close_with: tuple[int, str] | None = None
    tick_ms: int = 30_000
    challenge: Reply = field(
        default_factory=lambda: {
            "type": "event",
            "event": "connect.challenge",
            "payload": {"nonce": "n", "ts": 1_795_387_339_604},
        }
    )
    hello_auth: Reply = field(default_factory=dict)
    before_answer: Callable[[web.WebSocketResponse, str], Any] | None = None
    answers: dict[str, Reply] = field(default_factory=dict)
    """Payloads, or frames where they have an `ok`, by method."""
    url: str = ""
    runs: dict[str, FakeRun] = field(default_factory=dict)
    connects: list[Reply] = field(default_factory=list)
    requests: list[tuple[str, Reply]] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    closes: list[int | None] = field(default_factory=list)
    asked: asyncio.Condition = field(default_factory=asyncio.Condition)
    send_last_answer: bool = True
    last_answer: Reply = field(default_factory=lambda: {"status": "ok", "by": "agent"})

    def methods(self, name: str) -> list[Reply]:
        return [params for method, params in self.requests if method == name]

    async def until_asked(self, name: str, times: int = 1) -> None:
        """Return when the method was asked that often."""
        async with self.asked:
            await self.asked.wait_for(lambda: len(self.methods(name)) >= times)

    async def drop(self) -> None:
        """Cut every connection, as a failing network does."""
        for socket in self.sockets:
            transport = socket._req.transport if socket._req is not None else None
            if transport is not None:
                transport.abort()
        self.sockets.clear()

    async def tell(self, event: str, payload: object, seq: int | None = None) -> None:
        for socket in self.sockets:
            await send(socket, type="event", event=event, payload=payload, seq=seq)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        await socket.send_json(self.challenge)
        tasks: list[asyncio.Task[None]] = []
        try:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    frame = json.loads(message.data)
                    tasks.append(asyncio.create_task(self._take(socket, frame)))
        finally:
            self.closes.append(socket.close_code)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return socket

    async def _take(self, socket: web.WebSocketResponse, frame: Reply) -> None:
        method, params = frame["method"], frame.get("params") or {}
        async with self.asked:
            self.requests.append((method, params))
            self.asked.notify_all()
        if method == "connect":
            await self._connect(socket, frame, params)
            return
        if self.before_answer is not None and await self.before_answer(socket, method):
            return
        await self._answer(socket, frame["id"], method, params)

    async def _connect(self, socket: web.WebSocketResponse, frame: Reply, params: Reply) -> None:
        self.connects.append(params)
        if self.refusal is not None:
            await send(socket, type="res", id=frame["id"], ok=False, error=self.refusal)
        if self.close_with is not None:
            await socket.close(code=self.close_with[0], message=self.close_with[1].encode())
        if self.refusal is not None or self.close_with is not None:
            return
        self.sockets.append(socket)
        hello = {
            "type": "hello-ok",
            "protocol": 4,
            "server": {"version": "9", "connId": f"c{len(self.connects)}"},
            "features": {"methods": ["agent"], "events": ["agent"]},
            "snapshot": {},
            "auth": {"role": params["role"], "scopes": params["scopes"], **self.hello_auth},
            "policy": {
                "maxPayload": 100_000,
                "maxBufferedBytes": 1,
                "tickIntervalMs": self.tick_ms,
            },
        }
        await send(socket, type="res", id=frame["id"], ok=True, payload=hello)

    async def _answer(
        self, socket: web.WebSocketResponse, request_id: str, method: str, params: Reply
    ) -> None:
        def reply(**more: Any) -> Any:
            return send(socket, type="res", id=request_id, **more)

        if method in self.answers:
            told = self.answers[method]
            await reply(**(told if "ok" in told else {"ok": True, "payload": told}))
        elif method == "agent":
            run = self.runs.setdefault(params["idempotencyKey"], FakeRun(params["idempotencyKey"]))
            told = {"runId": run.id, "sessionKey": SESSION, "agentId": "main"}
            await reply(ok=True, payload=told | {"status": "accepted"})
            async for _ in run.after(0):
                pass
            if self.send_last_answer:
                await reply(ok=True, payload={"runId": run.id, **self.last_answer})
        elif method == "runs.follow" and params["runId"] in self.runs:
            run = self.runs[params["runId"]]
            await reply(ok=True, payload={"runId": run.id, "sessionKey": SESSION})
            async for event in run.after(params["afterSeq"]):
                await send(socket, type="event", event="agent", payload=event)
        elif method == "runs.abort":
            run = self.runs[params["runId"]]
            await run.tell(aborted())
            await reply(ok=True, payload={"ok": True, "aborted": True, "runIds": [run.id]})
        else:
            error = {"code": "INVALID_REQUEST", "message": f"unknown method: {method}"}
            await reply(ok=False, error=error)


async def send(socket: web.WebSocketResponse, **frame: Any) -> None:
    if not socket.closed:
        await socket.send_json({name: value for name, value in frame.items() if value is not None})


@asynccontextmanager
async def serving(fake: FakeGateway) -> AsyncIterator[FakeGateway]:
    """Serve on a free port of this machine alone."""
    application = web.Application()
    application.router.add_get("/", fake.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    fake.url = f"ws://127.0.0.1:{port}"
    try:
        yield fake
    finally:
        await runner.cleanup()
