"""A Gateway in a thread of its own, with as much state as is legal, whose loop is watched."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

from dependency_injector import providers

from opensoul.domain.messages import Role, text_message
from opensoul.domain.model_calls import StopReason, TextDelta, Usage
from opensoul.domain.ports import Turn
from opensoul.domain.run_records import RunRecord
from opensoul.domain.runs import Finished, Started
from opensoul.domain.sessions import SessionKey
from tests.app.serving import Served, config, provider, serving
from tests.fakes.behaviours import Exchange, chunk
from tests.fakes.loop_watch import LoopWatch, watched
from tests.fakes.provider import FakeProvider

SESSIONS, LONG_TURNS, LOG_LINES, PRESENCES, MODELS, AGENTS = 5_000, 200, 6_000, 500, 300, 100
RUN = "run-of-60-kb"
PIECES = ["words "] * 10_000
"""What the provider answers to everything, before it waits for `ends`."""
END = "end"


@dataclass
class LargeGateway:
    """`url` is for clients in any thread; everything else belongs to the Gateway's own thread."""

    url: str
    watch: LoopWatch
    loop: asyncio.AbstractEventLoop
    ends: asyncio.Event
    """Until it is set, no answer of the provider has an end."""
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def do(self, work: Callable[[], object] = lambda: None) -> None:
        """Call something in the Gateway's loop, behind all that is due there now."""

        async def run() -> None:
            work()

        asyncio.run_coroutine_threadsafe(run(), self.loop).result(60)

    async def until_stopped(self) -> None:
        await self._stop.wait()

    def stop(self) -> None:
        self.do(self._stop.set)


@contextmanager
def large_gateway(home: Path) -> Iterator[LargeGateway]:
    """Serve until the context ends."""
    started: Queue[LargeGateway | BaseException] = Queue()

    def run() -> None:
        try:
            asyncio.run(_serve(home, started))
        except BaseException as error:  # To be raised where the test waits.
            started.put(error)

    thread = threading.Thread(target=run, name="large gateway")
    thread.start()
    gateway = started.get(timeout=60)
    if isinstance(gateway, BaseException):
        raise gateway
    try:
        yield gateway
    finally:
        gateway.stop()
        thread.join()
    while not started.empty():
        raise AssertionError("the Gateway failed") from started.get()  # type: ignore[misc]


async def _serve(home: Path, started: Queue[Any]) -> None:
    ends = asyncio.Event()
    parts: dict[str, Any] = {"stop_process": providers.Object(lambda: None)}

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for n, piece in enumerate(PIECES):
            await exchange.event(chunk({"content": piece}))
            if n % 100 == 99:
                await asyncio.sleep(0)  # The provider shares the loop that is watched.
        await ends.wait()
        await exchange.event(chunk({"content": END}, "stop"))
        await exchange.piece(b"data: [DONE]\n\n")
        await exchange.end()

    async with (
        FakeProvider(behave) as fake,
        serving(home, _content(fake.base_url), **parts) as served,
    ):
        await _fill(served)
        gc.collect()
        gc.freeze()  # As the Gateway does once it serves: what is there is not looked through.
        try:
            with watched() as watch:
                gateway = LargeGateway(served.url, watch, asyncio.get_running_loop(), ends)
                started.put(gateway)
                await gateway.until_stopped()
                ends.set()
        finally:
            gc.unfreeze()


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
    log = container.run_log()
    log.open(RunRecord(RUN, SessionKey("main", "ended"), "main", "operator", "agent"))
    log.append(RUN, Started(0.0, 0), *map(TextDelta, PIECES))
    log.append(RUN, Finished(StopReason.STOP, Usage(20, 10), "fake/m"))
    for n in range(LOG_LINES):
        line = logging.LogRecord("opensoul.tests", logging.INFO, "f", 1, f"line {n}", None, None)
        line.__dict__.update(client="127.0.0.1", run=f"r{n}", reason="word " * 30)
        ring.handle(line)
    for n in range(PRESENCES):
        container.control().hub.presence.told(f"device-{n}", {"text": "word " * 20})


def _turn(session: str, run_id: str, n: int, words: str = "a few words") -> Turn:
    messages = (
        text_message(Role.USER, f"{n}? {words}"),
        text_message(Role.ASSISTANT, f"{n}! {words}"),
    )
    key, at = SessionKey("main", session), 1_700_000_000.0 + n
    return Turn(key, f"id-{session}", run_id, at, messages, "fake/m", Usage(20, 10))
