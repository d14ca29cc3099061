"""A Gateway in a thread of its own, with as much state as is legal, whose loop is watched."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any

from dependency_injector import providers

from opensoul.adapters.persistence.sqlite.runs import SqliteRunEvents
from opensoul.domain.messages import Role, text_message
from opensoul.domain.models.calls import StopReason, TextDelta, Usage
from opensoul.domain.ports import Turn
from opensoul.domain.runs.events import Finished, Started
from opensoul.domain.runs.records import RunRecord
from opensoul.domain.sessions.keys import SessionKey
from tests.app.serving import Served, config, provider, serving
from tests.fakes.behaviours import Exchange, chunk
from tests.fakes.loop_watch import LoopWatch, watched
from tests.fakes.provider import FakeProvider

SESSIONS, LONG_TURNS, LOG_LINES, PRESENCES, MODELS, AGENTS = 5_000, 200, 6_000, 500, 300, 100
RUN = "run-of-60-kb"
PIECES = ["aé "] * 19_000
"""What the provider answers to AT_LENGTH, before END; to everything else it answers END."""
AT_LENGTH, END = "Tell me all.", "end"


Report = Queue[Any]
"""Gets what a thread serves, or why it does not."""


@dataclass
class InThread:
    """Something that is served in another thread; `url` is for clients in any thread."""

    url: str
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event = field(default_factory=asyncio.Event, kw_only=True)

    def do(self, work: Callable[[], object] = lambda: None) -> None:
        """Call something in the loop of that thread, behind all that is due there now."""

        async def run() -> None:
            work()

        asyncio.run_coroutine_threadsafe(run(), self.loop).result(60)


@dataclass
class LargeProvider(InThread):
    """Until `ends` is set, no answer has an end."""

    ends: asyncio.Event = field(default_factory=asyncio.Event, kw_only=True)

    def answers_end(self, *, ever: bool = True) -> None:
        self.do(self.ends.set if ever else self.ends.clear)


@dataclass
class LargeGateway(InThread):
    watch: LoopWatch
    provider: LargeProvider


@contextmanager
def large_gateway(home: Path) -> Iterator[LargeGateway]:
    """Serve until the context ends. The provider has a thread of its own: it is not watched."""
    with _in_thread(_provide) as provider, _in_thread(partial(_serve, home, provider)) as gateway:
        yield gateway
        provider.answers_end()


@contextmanager
def _in_thread(serve: Callable[[Report], Coroutine[Any, Any, None]]) -> Iterator[Any]:
    """Run `serve` until the context ends: it tells what it serves, and waits for that to stop."""
    started: Report = Queue()

    def run() -> None:
        try:
            asyncio.run(serve(started))
        except BaseException as error:
            started.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    served = started.get(timeout=60)
    if isinstance(served, BaseException):
        raise served
    try:
        yield served
    finally:
        served.do(served.stop.set)
        thread.join()
    while not started.empty():
        raise AssertionError("the thread failed") from started.get()


async def _provide(started: Report) -> None:
    provider = LargeProvider("", asyncio.get_running_loop())

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        if exchange.request.json["messages"][-1]["content"] == AT_LENGTH:
            for piece in PIECES:
                await exchange.event(chunk({"content": piece}))
        await provider.ends.wait()
        await exchange.event(chunk({"content": END}, "stop"))
        await exchange.piece(b"data: [DONE]\n\n")
        await exchange.end()

    async with FakeProvider(behave) as fake:
        provider.url = fake.base_url
        started.put(provider)
        await provider.stop.wait()


async def _serve(home: Path, provider: LargeProvider, started: Report) -> None:
    parts: dict[str, Any] = {"stop_process": providers.Object(lambda: None)}
    async with serving(home, _content(provider.url), **parts) as served:
        await _fill(served)
        gc.collect()
        gc.freeze()  # As the Gateway does once it serves: what is there is not looked through.
        try:
            with watched() as watch:
                gateway = LargeGateway(served.url, asyncio.get_running_loop(), watch, provider)
                started.put(gateway)
                await gateway.stop.wait()
        finally:
            gc.unfreeze()
    gc.collect()
    gc.freeze()  # What was imported, as before.


def _content(provider_url: str) -> dict[str, Any]:
    models = ["m", *(f"model-{n}" for n in range(MODELS))]
    agents = [{"id": "main"}, *({"id": f"agent-{n}"} for n in range(AGENTS))]
    return config(
        models={"providers": {"fake": provider(provider_url, *models)}},
        agents={"defaults": {"model": {"primary": "fake/m"}}, "list": agents},
    )


async def _fill(served: Served) -> None:
    container = served.container
    store, ring = container.store(), container.log_ring()
    turns = [_turn(f"session-{n}", f"r{n}", n) for n in range(SESSIONS)]
    turns += [_turn("long", f"long-{n}", n, "word " * 6_000) for n in range(LONG_TURNS)]
    await asyncio.gather(*map(store.append, turns))
    log = container.run_events()
    assert isinstance(log, SqliteRunEvents)
    log.open(RunRecord(RUN, SessionKey("main", "ended"), "main", "operator", "agent"))
    log.put(RUN, Started(0.0, 0), *map(TextDelta, PIECES))
    log.put(RUN, Finished(StopReason.STOP, Usage(20, 10), "fake/m"))
    for n in range(LOG_LINES):
        line = logging.LogRecord("opensoul.tests", logging.INFO, "f", 1, f"line {n}", None, None)
        line.__dict__.update({f"count{i}": n * i for i in range(12)}, client="127.0.0.1")
        ring.handle(line)
    for n in range(PRESENCES):
        container.control().hub.presence.update(f"device-{n}", {"text": "word " * 20})


def _turn(session: str, run_id: str, n: int, words: str = "a few words") -> Turn:
    messages = (
        text_message(Role.USER, f"{n}? {words}"),
        text_message(Role.ASSISTANT, f"{n}! {words}"),
    )
    key, at = SessionKey("main", session), 1_700_000_000.0 + n
    return Turn(key, f"id-{session}", run_id, at, messages, "fake/m", Usage(20, 10))
