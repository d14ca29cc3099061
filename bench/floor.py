"""The minimal cost of the Gateway's features, added to the yardstick one after another.

    python -m bench.floor [--rounds N] [--seconds S]

    passed    the yardstick: bytes are forwarded
    heads     the headers of every response
    checked   the credential is compared, the request is validated and encoded again
    chunks    each chunk of the provider is decoded and encoded again with a new id
    line      a line in the access log
    kept      the turn is committed before the last chunk, and the run's events are stored

There are no layers, no runs that outlive their connection, no lanes, limits or followers, and no
error handling. The result is a lower bound for these features in this language on this stack, and
shows how much of the Gateway's time is spent on them and how much on its structure.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import logging
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop
from hypercorn.asyncio import serve
from quart import Quart, Response, request

from opensoul.adapters.persistence.sqlite.runs.run_events import SqliteRunEvents
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.adapters.providers.http import FailureFactory
from opensoul.adapters.providers.openai import CHAT_COMPLETIONS
from opensoul.adapters.providers.openai.answer.stream import Answer
from opensoul.adapters.system.ids import new_id
from opensoul.adapters.system.logging.setup import configure
from opensoul.adapters.transports.answering import Answer as Collected
from opensoul.adapters.transports.openai.chat.answers import Frames, Head, completion
from opensoul.adapters.transports.openai.chat.request import ChatRequest, read_request
from opensoul.domain.messages import Role, text_message
from opensoul.domain.models.calls import ModelTarget, Provider, TextDelta, Usage
from opensoul.domain.ports import Turn
from opensoul.domain.runs.events import DELTAS, Finished, Started
from opensoul.domain.runs.records import RunRecord
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.settings import LoggingSettings

from . import servers
from .cases import LOAD_CASES, Pace, side_by_side
from .process import ROOT, TOKEN, Server, free_port
from .report import median, ratios
from .yardstick import server_config

DUTIES = ("passed", "heads", "checked", "chunks", "line", "kept")
_CASES = ("nonstream-16", "stream-16")
_HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "x-opensoul-agent-id": "main",
    "server-timing": "auth;dur=0.01, queue;dur=0.01, history;dur=0.01, first-token;dur=1.00",
}
_access = logging.getLogger("opensoul.access")


class Floor:
    """A server with the first `duties` of DUTIES. Create it within the event loop."""

    def __init__(self, provider: str, home: Path, duties: int) -> None:
        self._address = f"{provider}/chat/completions"
        self._duties = set(DUTIES[: duties + 1])
        self._failures = FailureFactory(
            ModelTarget(Provider("floor", "floor"), "words"), CHAT_COMPLETIONS
        )
        self._token = hashlib.sha256(TOKEN.encode()).digest()
        self._store = SqliteStore(home / "sessions.sqlite3")
        self._log = SqliteRunEvents(home / "runs.sqlite3", clock=time.time)
        self._session: aiohttp.ClientSession | None = None
        configure(LoggingSettings())

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=300),
            headers={"Content-Type": "application/json"},
        )
        await self._store.open()
        await self._log.start()

    async def create(self) -> Response:
        began, run_id = time.perf_counter(), new_id()
        body: dict[str, Any] = orjson.loads(await request.get_data())
        chat_request = read_request(body)
        if "checked" in self._duties:
            secret = request.headers["Authorization"].removeprefix("Bearer ")
            if not hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), self._token):
                return Response(b"", 401)
        assert self._session is not None
        model = chat_request.model.removeprefix("opensoul:")
        sent = orjson.dumps({**body, "model": model, "stream": True})
        answer = await self._session.post(self._address, data=sent)
        pieces = self._response(chat_request, answer, run_id)
        if chat_request.stream:
            response = Response(pieces, content_type="text/event-stream; charset=utf-8")
            response.timeout = None
        else:
            whole = b"".join([piece async for piece in pieces])
            response = Response(whole, content_type="application/json")
        if "heads" in self._duties:
            response.headers.update(_HEADERS)
            for name in ("x-request-id", "x-opensoul-run-id", "x-opensoul-session-key"):
                response.headers[name] = run_id
        if "line" in self._duties:
            fields = {"path": request.path, "ms": time.perf_counter() - began, "run": run_id}
            _access.info("request", extra=fields)
        return response

    async def _response(
        self, chat_request: ChatRequest, answer: aiohttp.ClientResponse, run_id: str
    ) -> AsyncGenerator[bytes]:
        read, frames = Answer(self._failures), Frames(Head(run_id, 0, "floor"), include_usage=False)
        key, texts = SessionKey("main", run_id), list[str]()
        if "kept" in self._duties:
            self._log.open(RunRecord(run_id, key, "main", "operator", "openai"))
            self._log.put(run_id, Started(0.0, 0.0))
        async with answer:
            async for piece in answer.content.iter_any():
                if "chunks" not in self._duties:
                    yield piece
                    continue
                events = [event for event in read.feed(piece) if isinstance(event, DELTAS)]
                texts += [event.text for event in events if isinstance(event, TextDelta)]
                if "kept" in self._duties and events:
                    self._log.put(run_id, *events)
                if chat_request.stream and events:
                    yield frames.of(events, 0)
        if "chunks" not in self._duties:
            return
        end = Finished(read.finished().stop, Usage(1, 1), "floor/floor")
        if "kept" in self._duties:
            messages = (*chat_request.messages, text_message(Role.ASSISTANT, "".join(texts)))
            await self._store.append(Turn(key, run_id, run_id, time.time(), messages, one_off=True))
            self._log.put(run_id, end)
        if chat_request.stream:
            yield frames.of([end], 0)
        else:
            yield completion(Head(run_id, 0, "floor"), Collected("".join(texts), "", end))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._store.close()
        await self._log.close()


async def run(port: int, provider: str, home: Path, duties: int) -> None:
    """Serve until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    floor = Floor(provider, home, duties)
    app = Quart("floor", static_folder=None)
    app.before_serving(floor.open)
    app.after_serving(floor.close)
    app.post("/v1/chat/completions")(floor.create)

    @app.get("/readyz")
    async def ready() -> Response:
        return Response(b'{"ready":true}', content_type="application/json")

    config: Any = server_config(port)

    async def shutdown() -> None:
        await stopped.wait()

    await serve(app, config, shutdown_trigger=shutdown)


def server(address: str, home: Path, duties: int) -> Server:
    """A process that serves the first `duties` features."""
    home.mkdir(parents=True, exist_ok=True)
    port, name = free_port(), DUTIES[duties]
    options = ("--port", str(port), "--provider", address, "--home", str(home))
    command = (sys.executable, "-m", "bench.floor", *options, "--duties", str(duties))
    return Server(name, command, port, home)


def compare(pace: Pace) -> None:
    """Measure and print all steps from the yardstick to the Gateway."""
    with tempfile.TemporaryDirectory(prefix="floor-") as folder, ExitStack() as stack:
        home = Path(folder)
        address = servers.started(stack, home / "provider")
        running = {"yardstick": stack.enter_context(servers.yardstick(address, home / "y"))}
        for duties, name in list(enumerate(DUTIES))[1:]:
            running[name] = stack.enter_context(server(address, home / name, duties))
        opensoul = Path(sys.executable).with_name("opensoul")
        running["gateway"] = stack.enter_context(
            servers.gateway(opensoul)(address, home / "gateway")
        )
        for case in _CASES:
            rounds = side_by_side(LOAD_CASES[case], running, pace)
            _say(LOAD_CASES[case].title)
            for name, samples in rounds.items():
                throughput = sorted(ratios(rounds, "rps", name))[len(samples) // 2]
                cost = sorted(ratios(rounds, "cpu_ms", name))[len(samples) // 2]
                rps, cpu_ms = median(samples, "rps"), median(samples, "cpu_ms")
                line = f"  {name:<10}{rps:8.0f} /s{cpu_ms:8.2f} ms"
                _say(f"{line}   throughput x {throughput:.2f}   processor time x {cost:.2f}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="What the Gateway's duties cost at the least.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--port", type=int, help="serve there, with:")
    parser.add_argument("--provider", default="", help="base URL of the provider")
    parser.add_argument("--home", type=Path, default=ROOT, help="where it keeps its files")
    parser.add_argument("--duties", type=int, default=0, help="how many")
    arguments = parser.parse_args()
    if arguments.port is None:
        compare(Pace(arguments.rounds, arguments.seconds, warm=0.3, repeats=1, slow_chunks=0))
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(arguments.port, arguments.provider, arguments.home, arguments.duties))


if __name__ == "__main__":
    main()
