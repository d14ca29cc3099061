"""A new kind of run event is registered, and stored before every other event of every run: every
consumer passes over it, end to end."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dependency_injector import providers

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
    (choice,) = whole["choices"]
    text, reasoning = choice["message"]["content"], choice["message"]["reasoning_content"]
    total = whole["usage"]["total_tokens"]
    return response.status, text, reasoning, choice["finish_reason"], total


async def by_stream(served: Served) -> object:
    async with served.ask(stream=True) as response:
        events = [line for line in (await response.text()).split("\n") if line.startswith("data")]
    frames = [json.loads(event[6:]) for event in events if event.startswith("data: {")]
    deltas = [choice for frame in frames for choice in frame["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in deltas)
    return response.status, text, deltas[-1]["finish_reason"], events[-1]


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
    return run_text(events), kept, result.text, record.status


async def by_outcome(served: Served) -> object:
    """The last responses to `agent`: of the first request, which the Gateway makes of what it has
    broadcast, and of the same request again, which it makes of the stored events."""
    asked = {"message": "hello", "idempotencyKey": "k"}
    payloads = []
    for _ in range(2):
        async with connected(served.client, SECRET) as peer:
            request = peer.send("agent", asked)
            payload = await peer.answer(request)
            if payload["status"] == "accepted":
                payload = await peer.answer(request)
            payloads.append(payload["result"]["payloads"])
    return payloads


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
    total = final["usage"]["total"]
    return final["message"]["content"], final["stopReason"], total, waited["status"]


Consume = Callable[[Served], Coroutine[Any, Any, object]]
STEP = ["Started", "ToolStarted", "ToolFinished", "StepDone"]
SAID = "I look. \n\nIt is 1815."
CONSUMERS: list[tuple[Consume, object]] = [
    (by_completion, (200, SAID, "hm", "stop", 20)),
    (by_stream, (200, SAID, "stop", "data: [DONE]")),
    (by_log, ("answered", "fake/m", True)),
    (by_agent, (SAID, [*STEP, "Finished"], SAID, "finished")),
    (by_outcome, [[{"text": SAID}]] * 2),
    (by_replay, (SAID, "Finished")),
    (by_chat, ([{"type": "text", "text": SAID}], "stop", 20, "ok")),
]


STORES: dict[str, type[Any]] = {"memory": MixedMemory, "SQLite": MixedSqlite}


def log_in(home: Path, kind: type[Any]) -> Any:
    """A store of run events that adds events of the new kind."""
    place = [home / "runs.sqlite3"] if issubclass(kind, SqliteRunEvents) else []
    return kind(*place, clock=time.time)


@pytest_asyncio.fixture(params=STORES)
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    log = providers.Object(log_in(tmp_path, STORES[request.param]))
    async with FakeProvider(behaviour) as provider:
        content = config(provider.base_url, tools={"alsoAllow": ["group:plugins"]})
        async with serving(tmp_path, content, find_plugins=FIND, run_events=log) as served:
            yield served


@pytest.mark.parametrize(("consume", "expected"), CONSUMERS)
async def test_a_consumer_passes_over_a_new_kind(
    served: Served, consume: Consume, expected: object
) -> None:
    assert await consume(served) == expected
    assert await novel_events(served) > 5


@pytest.mark.parametrize("kind", STORES.values(), ids=STORES)
def test_a_local_turn_passes_over_a_new_kind(
    tmp_path: Path,
    kind: type[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "opensoul.json"
    path.write_text(json.dumps(config(agents={"list": [{"id": "main", "runner": "echo"}]})))
    monkeypatch.setenv("OPENSOUL_STATE_DIR", str(tmp_path / "state"))
    log = providers.Object(log_in(tmp_path, kind))
    monkeypatch.setattr(container, "Container", partial(container.Container, run_events=log))

    code = command(["agent", "-m", "hi", "--local", "--json", "--config", str(path)])

    result = json.loads(capsys.readouterr().out)["result"]
    assert (code, result["meta"]["stopReason"]) == (0, "stop")
    assert result["payloads"] == [{"text": "[echo after 0 messages] hi"}]


async def novel_events(served: Served) -> int:
    """How many events of the new kind the runs have, as the store gives them back."""
    log, found = served.container.run_events(), 0
    for record in (await log.list(RunQuery())).runs:
        async for batch in log.follow_kept(record.id):
            found += sum(isinstance(event, Novel) for event in batch.events)
    return found
