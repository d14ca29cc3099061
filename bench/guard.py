"""Guards the hot path in continuous integration, without a look at the wall clock.

    python -m bench.guard [--update]

One run of 50 chunks goes from `Gateway.submit` to its frames, in this process, with a model that
plays a script. Two things are told of it, and neither may be more than a quarter above what
`baseline.json` says for this version of Python:

    time    its processor time, as a ratio to that of a loop of plain Python of the same stuff,
            timed in turn with it: a slower machine does not count, and of many timings the
            quietest tenth does, so that a busy one hardly does
    calls   how many functions are called, Python's and C's: the same on every machine
    stored  the same with SQLite, the writing threads included

`--update` writes the baseline anew, which belongs into the commit that has a reason to.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import orjson
from dependency_injector import providers

from opensoul.adapters.transports.openai_chat.answers import head_of
from opensoul.adapters.transports.openai_chat.sse import Frames
from opensoul.app.container import Container
from opensoul.domain.addresses import ClientAddress
from opensoul.domain.agents import Agent, AgentDirectory
from opensoul.domain.auth import Credential
from opensoul.domain.gateway import Gateway
from opensoul.domain.messages import Role, text_message
from opensoul.domain.model_calls import (
    ModelEvent,
    ModelFinished,
    ModelRequest,
    ModelTarget,
    Provider,
    Secret,
    StopReason,
    TextDelta,
    Usage,
)
from opensoul.domain.runs import RunRequest
from opensoul.domain.settings import AuthMode, AuthSettings, Settings, StoreSettings

BASELINE = Path(__file__).with_name("baseline.json")
ALLOWED = 1.25
_CHUNKS = 50
_RUNS = 20
"""In one timing: some thirty milliseconds."""
_PAIRS = 41
_LOOPS = 20
_SECRET = "guard-only"  # noqa: S105 - guards nothing


class _Model:
    """A ModelClient that says 50 words; others get their turn between them, as with a socket."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        for _ in range(_CHUNKS):
            yield TextDelta("tok ")
            await asyncio.sleep(0)
        yield ModelFinished(StopReason.STOP, Usage(input=7, output=_CHUNKS))

    async def close(self) -> None:
        """Nothing to let go of."""


def _settings(store: StoreSettings) -> Settings:
    target = ModelTarget(Provider("guard", "guard"), "words")
    return Settings(
        agents=AgentDirectory([Agent("main", "Main", models=(target,))], "main"),
        auth=AuthSettings(AuthMode.TOKEN, Secret(_SECRET)),
        store=store,
    )


@asynccontextmanager
async def gateway(store: StoreSettings) -> AsyncIterator[Gateway]:
    """A Gateway wired as the real one is, but for its settings and its model."""
    settings = _settings(store)
    container = Container(
        settings=providers.Object(lambda: settings),
        models=providers.Object({"guard": _Model()}),
    )
    async with AsyncExitStack() as stack:
        sessions, log = container.store(), container.run_log()
        stack.push_async_callback(sessions.close)
        await sessions.open()
        stack.push_async_callback(log.close)
        await log.start()
        made: Gateway = container.gateway()
        stack.push_async_callback(made.drain, 10.0)
        yield made


async def answer(served: Gateway, user: str | None = None) -> int:
    """One request from its credential to its last frame; the bytes of its frames."""
    who = served.authenticate(Credential(ClientAddress("127.0.0.1"), _SECRET.encode()))
    run = served.submit(who, RunRequest((text_message(Role.USER, "Hello!"),), user=user))
    frames = Frames(head_of(run, "opensoul"), include_usage=True)
    size = 0
    async with served.follow(who, run) as events:
        async for numbered in events:
            size += len(frames.of(numbered.event))
    return size


@dataclass(frozen=True, slots=True)
class _Item:
    number: int
    text: str


async def _items(count: int) -> AsyncGenerator[_Item]:
    for number in range(count):
        yield _Item(number, "tok ")
        await asyncio.sleep(0)


async def _passed_on(items: AsyncGenerator[_Item]) -> AsyncGenerator[_Item]:
    async for item in items:
        yield item


async def _yardstick() -> int:
    """What the ratio is to: turns of the event loop, async generators, small objects and bytes.

    It is of the same stuff as the hot path, so that whatever slows that slows this as much.
    """
    loop, size = asyncio.get_running_loop(), 0
    for _ in range(_LOOPS):
        woken: list[asyncio.Future[None]] = []
        async for item in _passed_on(_passed_on(_items(_CHUNKS))):
            waiter: asyncio.Future[None] = loop.create_future()
            woken.append(waiter)
            waiter.set_result(None)
            await waiter
            size += len(b'data: {"content":' + orjson.dumps(item.text) + b"}\n\n")
    return size


async def measure(work: Callable[[], Awaitable[object]], pairs: int = _PAIRS) -> float:
    """The processor time of `work` as a ratio to the yardstick's, in their quiet moments."""
    theirs, ours = [], []
    await work()
    await _yardstick()
    gc.collect()
    gc.disable()
    try:
        for _ in range(pairs):
            ours.append(await _timed(work))
            theirs.append(await _timed(_yardstick))
            gc.collect(0)
    finally:
        gc.enable()
    return sorted(ours)[pairs // 10] / sorted(theirs)[pairs // 10]


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.process_time()
    await work()
    return time.process_time() - began


class Calls:
    """Counts the functions that are called, in this thread and in those begun while it counts."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Calls:
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if event.endswith("call"):
            self.count += 1


async def time_and_calls(store: StoreSettings) -> tuple[float, float]:
    """The time of a request, as a ratio, and its calls."""
    async with gateway(store) as served:

        async def work() -> None:
            for _ in range(_RUNS):
                await answer(served)

        ratio = await measure(work)
        with Calls() as calls:
            await work()
    return ratio, calls.count / _RUNS


async def stored_calls(store: StoreSettings) -> float:
    """The calls of a request, those of the threads that store it included."""
    with Calls() as calls:
        async with gateway(store) as served:
            await answer(served)
            before = calls.count
            for _ in range(_RUNS):
                await answer(served)
            return (calls.count - before) / _RUNS


async def measured() -> dict[str, float]:
    """Every guarded figure."""
    ratio, calls = await time_and_calls(StoreSettings(memory=True))
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        stored = await stored_calls(StoreSettings(path=f"{folder}/guard.db"))
    return {"time": ratio, "calls": calls, "stored": stored}


def verdicts(figures: dict[str, float], wanted: dict[str, float]) -> list[str]:
    """A line for each figure that is too dear."""
    return [
        f"{name}: {figure:.4g} is more than {ALLOWED:g} times the baseline {wanted[name]:.4g}"
        for name, figure in figures.items()
        if name in wanted and figure > ALLOWED * wanted[name]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Fail when the hot path has become dearer.")
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    updating = parser.parse_args().update
    logging.disable()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    known: dict[str, dict[str, float]] = {}
    if BASELINE.exists():
        known = orjson.loads(BASELINE.read_bytes())
    figures = asyncio.run(measured())
    _say(f"Python {version}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
    if updating:
        known[version] = {name: round(figure, 3) for name, figure in figures.items()}
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
        BASELINE.write_bytes(orjson.dumps(known, option=options) + b"\n")
        return 0
    if version not in known:
        _say(f"There is no baseline for Python {version}: nothing to compare with.")
        return 0
    dearer = verdicts(figures, known[version])
    if dearer:
        # Once more: what was only disturbed is not dearer twice.
        dearer = verdicts(asyncio.run(measured()), known[version])
    _say(*dearer)
    return 1 if dearer else 0


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
