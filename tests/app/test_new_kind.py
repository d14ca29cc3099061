"""A new kind of run event is registered, and stored before every other event of every run: every
consumer passes over it, end to end."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dependency_injector import providers

from opensoul.adapters.persistence.memory import MemoryRunEvents
from opensoul.adapters.persistence.sqlite.runs import SqliteRunEvents
from opensoul.app import container
from opensoul.app.cli.root import run as command
from opensoul.client import Client, Options, run_text
from opensoul.domain.runs import RunQuery
from tests.app.serving import SECRET, Served, config, serving
from tests.control.client import connected
from tests.fakes import novel
from tests.fakes.behaviours import Exchange, answer
from tests.fakes.novel import MixedMemory, MixedSqlite, Novel
from tests.fakes.provider import FakeProvider
from tests.test_extending import FIND

ARGUMENTS = {"name": "look_up_extension", "arguments": '{"name":"ada"}'}
CALL = answer(
    "I look. ",
    tool_calls=[{"index": 0, "id": "c1", "type": "function", "function": ARGUMENTS}],
    finish_reason="tool_calls",
)
TEXT = answer("It is ", "1815.", reasoning=["hm"])


async def behaviour(exchange: Exchange) -> None:
    """Call the tool, then answer."""
    has_result = exchange.request.json["messages"][-1]["role"] == "tool"
    await (TEXT if has_result else CALL)(exchange)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    novel.register(monkeypatch)


async def by_completion(served: Served) -> object:
    async with served.ask() as response:
        whole = await response.json()
    return response.status, whole["choices"], whole["usage"]


async def by_stream(served: Served) -> object:
    async with served.ask(stream=True) as response:
        events = (await response.text()).split("\n\n")
    frames = [json.loads(event[6:]) for event in events if event.startswith("data: {")]
    deltas = [choice for frame in frames for choice in frame["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in deltas)
    return response.status, text, deltas[-1]["finish_reason"], events[-2]


async def by_log(served: Served) -> object:
    """What the access log says of a completion; the line is written after the response."""
    line: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "answered_by" in record.__dict__:
                line.set_result(record.__dict__)

    log, handler = logging.getLogger("opensoul.access"), Handler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        await served.text()
        async with asyncio.timeout(20):
            written = await line
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    return written["outcome"], written["answered_by"], "first_token_ms" in written


def client_of(served: Served) -> Client:
    return Client(Options(url=served.url.replace("http", "ws", 1), token=SECRET))


async def by_agent(served: Served) -> object:
    """The events that a client gets while the run goes on, and its outcome."""
    async with client_of(served) as client:
        run = await client.run_agent("hello")
        events = [event async for event in run.events()]
        result = await run.result()
        record = await client.run(run.run_id)
    kinds = [type(event).__name__ for event in events]
    kept = [kind for kind in kinds if not kind.endswith("Delta")]
    return run_text(events), kept, result.status, result.text, record.status


async def by_replay(served: Served) -> object:
    """The events of a run that has ended."""
    async with client_of(served) as client:
        run = await client.run_agent("hello")
        await run.result()
        events = [event async for event in client.follow(run.run_id).events()]
    return run_text(events), type(events[-1]).__name__


async def by_chat(served: Served) -> object:
    """The events that the Gateway broadcasts to the clients of a session."""
    async with connected(served.client, SECRET) as peer:
        await peer.call(
            "chat.send", {"sessionKey": "main", "message": "hello", "idempotencyKey": "k"}
        )
        final = (await peer.event("chat", state="final"))["payload"]
        waited = await peer.call("agent.wait", {"runId": "k"})
    return final["message"]["content"], final["stopReason"], final["usage"], waited["status"]


Consume = Callable[[Served], Coroutine[Any, Any, object]]
CONSUMERS: list[Consume] = [by_completion, by_stream, by_log, by_agent, by_replay, by_chat]


@dataclass
class Gateways:
    """One Gateway for each way to keep run events."""

    plain: Served
    mixed: Served


STORES: dict[str, tuple[type[Any], type[Any]]] = {
    "memory": (MemoryRunEvents, MixedMemory),
    "SQLite": (SqliteRunEvents, MixedSqlite),
}


@pytest_asyncio.fixture(params=STORES)
async def gateways(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateways]:
    homes = [tmp_path / "plain", tmp_path / "mixed"]
    parts = []
    for home, kind in zip(homes, STORES[request.param], strict=True):
        home.mkdir()
        place = [home / "runs.sqlite3"] if issubclass(kind, SqliteRunEvents) else []
        parts.append(providers.Singleton(kind, *place, clock=time.time))
    async with FakeProvider(behaviour) as provider:
        content = config(provider.base_url)
        async with (
            serving(homes[0], content, find_plugins=FIND, run_log=parts[0]) as plain,
            serving(homes[1], content, find_plugins=FIND, run_log=parts[1]) as other,
        ):
            yield Gateways(plain, other)


@pytest.mark.parametrize("kinds", STORES.values(), ids=STORES)
def test_a_local_turn_passes_over_a_new_kind(
    tmp_path: Path,
    kinds: tuple[type[Any], type[Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answer_with(kind: type[Any], name: str) -> object:
        home = tmp_path / name
        home.mkdir()
        place = [home / "runs.sqlite3"] if issubclass(kind, SqliteRunEvents) else []
        log = kind(*place, clock=time.time)
        path = home / "opensoul.json"
        path.write_text(json.dumps(config(agents={"list": [{"id": "main", "runner": "echo"}]})))
        monkeypatch.setenv("OPENSOUL_STATE_DIR", str(home / "state"))
        with_log = partial(container.Container, run_log=providers.Object(log))
        with monkeypatch.context() as patched:
            patched.setattr(container, "Container", with_log)
            code = command(["agent", "-m", "hi", "--local", "--json", "--config", str(path)])
        result = json.loads(capsys.readouterr().out)["result"]
        return code, result["payloads"], result["meta"]["stopReason"]

    plain, mixed = kinds

    assert answer_with(mixed, "mixed") == answer_with(plain, "plain")


@pytest.mark.parametrize("consume", CONSUMERS)
async def test_a_consumer_passes_over_a_new_kind(gateways: Gateways, consume: Consume) -> None:
    expected = await consume(gateways.plain)

    assert await consume(gateways.mixed) == expected
    assert await novel_events(gateways.mixed) > 5
    assert await novel_events(gateways.plain) == 0


async def novel_events(served: Served) -> int:
    """How many events of the new kind the runs have, as the store gives them back."""
    log, found = served.container.run_events(), 0
    for record in (await log.list(RunQuery())).runs:
        async for batch in log.follow_kept(record.id):
            found += sum(isinstance(event, Novel) for event in batch.events)
    return found
