"""Repeated requests, answers that go on without their client, and runs over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from dependency_injector import providers
from openai import AsyncOpenAI

from examples.header_authenticator import PEOPLE, HeaderAuthenticator
from opensoul.adapters.persistence.common import Bounds
from opensoul.adapters.persistence.sqlite.runs.run_events import SqliteRunEvents
from opensoul.domain.access import Scope
from opensoul.domain.models.calls import ModelFinished, StopReason, TextDelta, Usage
from opensoul.domain.runs import RunStatus
from opensoul.domain.settings import EndpointSettings
from tests.app.grants import ask, people, through_proxy
from tests.app.grants import served as shared
from tests.app.serving import Served, config, serving
from tests.fakes.behaviours import Behaviour, Exchange, answer, chunk
from tests.fakes.provider import FakeProvider

from .app import Harness
from .client import BEARER, Client

__all__ = ["people", "shared"]
PATIENCE = 20.0
KEY = {"Idempotency-Key": "one"}
CONTINUE = {"x-opensoul-on-disconnect": "continue"}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
WORDS = tuple(f"word{number} " for number in range(40))


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    content = config(provider.base_url)
    content["gateway"]["shutdown"] = {"graceSeconds": 0}  # Runs are left at work.
    async with serving(tmp_path, content) as served:
        yield served


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    id: str
    data: str

    @property
    def seq(self) -> int:
        return int(self.id.rpartition(":")[2])

    @property
    def json(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.data)
        return read


def events_in(text: str) -> list[Event]:
    """The events of a stream that have data, as the standard reads them."""
    events, last, data = [], "", ""
    for line in text.split("\n"):
        name, _, value = line.partition(": ")
        if name == "id":
            last = value
        elif name == "data":
            data += value
        elif not line and data:
            events.append(Event(last, data))
            data = ""
    return events


@dataclass(frozen=True)
class Said:
    """An answer, whichever way it came. `ids`: those of a stream's events."""

    id: str
    text: str
    finish: str
    calls: Any = None
    reasoning: str = ""
    ids: tuple[str, ...] = ()


async def said(served: Served, headers: Mapping[str, str], **body: Any) -> Said:
    async with asyncio.timeout(PATIENCE), served.ask(headers, **body) as response:
        text = await response.text()
        assert response.status == 200, text
        run_id = response.headers["x-opensoul-run-id"]
    if not body.get("stream"):
        whole = json.loads(text)
        assert whole["id"] == f"chatcmpl_{run_id}"
        (choice,) = whole["choices"]
        message = choice["message"]
        calls = message.get("tool_calls")
        thought = message.get("reasoning_content", "")
        return Said(whole["id"], message["content"] or "", choice["finish_reason"], calls, thought)
    *events, done = events_in(text)
    assert done.data == "[DONE]"
    chunks = [event.json for event in events]
    assert {chunk["id"] for chunk in chunks} == {f"chatcmpl_{run_id}"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    named = [call for delta in deltas for call in delta.get("tool_calls", ()) if "id" in call]
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": "".join(
                    part["function"]["arguments"]
                    for delta in deltas
                    for part in delta.get("tool_calls", ())
                    if part["index"] == call["index"]
                ),
            },
        }
        for call in named
    ]
    return Said(
        chunks[0]["id"],
        "".join(delta.get("content") or "" for delta in deltas),
        chunks[-1]["choices"][0]["finish_reason"],
        calls or None,
        "".join(delta.get("reasoning_content", "") for delta in deltas),
        tuple(event.id for event in events),
    )


async def followed(served: Served, path: str, **headers: str) -> list[Event]:
    """The events of a run from `path` to the end of the stream."""
    asked = served.authorization | headers
    async with asyncio.timeout(PATIENCE), served.client.get(path, headers=asked) as response:
        text = await response.text()
        assert response.status == 200, text
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    return events_in(text)


async def fetched(served: Served, path: str, headers: Mapping[str, str] | None = None) -> Any:
    asked = served.authorization if headers is None else headers
    async with asyncio.timeout(PATIENCE), served.client.get(path, headers=asked) as response:
        return response.status, await response.json()


async def error_of(response: aiohttp.ClientResponse) -> tuple[int, str, str | None]:
    error = (await response.json())["error"]
    return response.status, error["code"], error["param"]


@asynccontextmanager
async def left_behind(
    served: Served, headers: Mapping[str, str], seen: str
) -> AsyncIterator[tuple[str, str]]:
    """A streamed answer that its client leaves when it has read `seen`: the run, and what the
    client has read."""
    read = ""
    async with served.ask(headers, stream=True) as response:
        run_id = response.headers["x-opensoul-run-id"]
        async with asyncio.timeout(PATIENCE):
            async for line in response.content:
                read += line.decode()
                if seen in read and line == b"\n":
                    break
        response.close()
    yield run_id, read


def gated(gate: asyncio.Event, *texts: str) -> Behaviour:
    """An answer that waits before its last text."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text in texts[:-1]:
            await exchange.event(chunk({"content": text}))
        await gate.wait()
        await exchange.event(chunk({"content": texts[-1]}))
        await exchange.event(chunk({}, "stop"))
        await exchange.end()

    return behave


# Idempotency-Key


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("first", [True, False])
async def test_a_repeated_request_gets_the_same_answer(
    served: Served, provider: FakeProvider, first: bool, again: bool
) -> None:
    provider.will(answer("Hel", "lo", "!"), answer("Another"))

    one = await said(served, KEY, stream=first)
    two = await said(served, KEY, stream=again)
    other = await said(served, {"Idempotency-Key": "two"})

    assert (one.text, one.finish) == ("Hello!", "stop")
    assert replace(one, ids=()) == replace(two, ids=())
    assert (other.text, other.id == one.id) == ("Another", False)
    assert len(provider.requests) == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_calls_of_a_clients_tools_are_repeated_identically(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    function = {"name": "weather", "arguments": '{"city":"Bern"}'}
    call = {"index": 0, "id": "c", "type": "function", "function": function}
    provider.will(answer("I look.", tool_calls=[call], finish_reason="tool_calls"))

    one = await said(served, KEY, tools=[WEATHER], stream=stream)
    two = await said(served, KEY, tools=[WEATHER], stream=not stream)

    assert one.finish == "tool_calls"
    assert one.calls
    assert replace(one, ids=()) == replace(two, ids=())
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"messages": [{"role": "user", "content": "bye"}]}, id="messages"),
        pytest.param({"temperature": 0.5}, id="a parameter"),
        pytest.param({"tools": [WEATHER]}, id="tools"),
        pytest.param({"user": "somebody"}, id="a session"),
    ],
)
async def test_another_request_under_a_key_is_refused(
    served: Served, provider: FakeProvider, other: dict[str, Any]
) -> None:
    await said(served, KEY)

    async with served.ask(KEY, **other) as response:
        assert await error_of(response) == (409, "idempotency_key_reused", "Idempotency-Key")
        assert response.headers["X-Should-Retry"] == "false"
    assert len(provider.requests) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_is_repeated_while_its_run_goes_on_follows_it(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    gate = asyncio.Event()
    provider.will(gated(gate, "Hel", "lo"))
    first = asyncio.create_task(said(served, KEY))
    await provider.arrival()
    second = asyncio.create_task(said(served, KEY, stream=stream))
    async with left_behind(served, KEY, "Hel") as (run_id, read):
        assert "Hel" in read
    gate.set()

    one, two = await asyncio.gather(first, second)

    assert one.text == two.text == "Hello"
    assert one.id == two.id == f"chatcmpl_{run_id}"
    assert len(provider.requests) == 1


async def test_a_failure_is_repeated_too(served: Served, provider: FakeProvider) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.whole(400, b'{"error":{"message":"no"}}', "application/json", {})

    provider.will(refuse)
    for _ in range(2):
        async with served.ask(KEY) as response:
            assert await error_of(response) == (400, "provider_bad_request", None)
    assert len(provider.requests) == 1


async def test_equal_keys_of_two_principals_never_meet(
    shared: Served, people: HeaderAuthenticator, provider: FakeProvider
) -> None:
    people.people["alan"] = replace(PEOPLE["grace"], id="alan", principal="alan")
    runs = {}
    for name in ("grace", "alan"):
        async with ask(shared, through_proxy(name) | KEY) as response:
            assert response.status == 200
            runs[name] = response.headers["x-opensoul-run-id"]
    assert runs["grace"] != runs["alan"]


async def test_an_answer_is_repeated_after_a_restart(
    tmp_path: Path, provider: FakeProvider
) -> None:
    provider.will(answer("Hel", "lo"))
    async with serving(tmp_path, config(provider.base_url)) as served:
        before = await said(served, KEY, stream=True)
    async with serving(tmp_path, config(provider.base_url)) as served:
        after = await said(served, KEY, stream=True)
        whole = await said(served, KEY)
    assert replace(after, ids=()) == replace(before, ids=()) == whole
    assert after.ids[-1] == before.ids[-1]
    assert len(provider.requests) == 1


async def test_an_answer_is_repeated_whose_events_are_no_longer_kept(
    tmp_path: Path, provider: FakeProvider
) -> None:
    function = {"name": "weather", "arguments": "{}"}
    call = {"index": 0, "id": "c", "type": "function", "function": function}
    own = call | {"function": {"name": "read", "arguments": '{"path": "none"}'}}
    provider.will(
        answer("Well.", reasoning=["Hm."], tool_calls=[own], finish_reason="tool_calls"),
        answer("I ", "see.", reasoning=["Ah."], tool_calls=[call], finish_reason="tool_calls"),
        answer("Well.", tool_calls=[own], finish_reason="tool_calls"),
        answer('{"a": 1}'),
        answer("Once upon", finish_reason="length"),
    )
    content = config(
        provider.base_url,
        agents={"defaults": {"model": {"primary": "fake/m"}, "workspace": str(tmp_path)}},
        tools={"allow": ["read"]},
    )
    headers = KEY | {"x-opensoul-reasoning": "include"}
    formed = {"response_format": {"type": "json_object"}}
    async with serving(tmp_path, content) as served:
        before = await said(served, headers, tools=[WEATHER])
        assert (before.text, before.reasoning) == ("Well.\n\nI see.", "Hm.Ah.")
        json_before = await said(served, {"Idempotency-Key": "j"}, **formed)
        assert json_before.text == '{"a": 1}'
        cut_before = await said(served, {"Idempotency-Key": "cut"})
        assert (cut_before.text, cut_before.finish) == ("Once upon", "length")
    small = providers.Singleton(
        SqliteRunEvents, tmp_path / "state" / "runs.sqlite3", clock=time.time, keep_bytes=0
    )
    async with serving(tmp_path, content, run_events=small) as served:
        run_id = before.id.removeprefix("chatcmpl_")
        path = f"/v1/runs/{run_id}/events"
        await until_expired(served, path)
        assert await said(served, headers, tools=[WEATHER]) == before
        streamed = await said(served, headers, tools=[WEATHER], stream=True)
        assert replace(streamed, ids=()) == before
        await until_expired(served, f"/v1/runs/{json_before.id.removeprefix('chatcmpl_')}/events")
        await until_expired(served, f"/v1/runs/{cut_before.id.removeprefix('chatcmpl_')}/events")
        assert await said(served, {"Idempotency-Key": "cut"}) == cut_before
        assert await said(served, {"Idempotency-Key": "j"}, **formed) == json_before
        async with served.client.get(path, headers=served.authorization) as response:
            assert await error_of(response) == (410, "events_expired", None)


async def test_the_terminal_event_has_the_text_of_events_that_are_no_longer_kept(
    tmp_path: Path, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(gated(gate, *WORDS))
    few = providers.Singleton(
        SqliteRunEvents,
        tmp_path / "runs.sqlite3",
        clock=time.time,
        bounds=Bounds(events_per_run=10),
    )
    async with serving(tmp_path, config(provider.base_url), run_events=few) as served:
        gate.set()
        async with served.ask(CONTINUE) as response:  # It may lag too far behind for an answer.
            run_id = response.headers["x-opensoul-run-id"]
        await served.container.run_events().ended(run_id)
        last = (await fetched(served, f"/v1/runs/{run_id}"))[1]["last_event"]
        path = f"/v1/runs/{run_id}/events?after={last - 3}"
        events = await followed(served, path)
    assert [event.seq for event in events] == [last - 2, last - 1, last]
    assert events[-1].json["text"] == "".join(WORDS)


async def until_expired(served: Served, path: str) -> None:
    """Return when the events of a run are gone, which happens as other runs end."""
    async with asyncio.timeout(PATIENCE):
        while (await status_of(served, path)) != 410:
            await said(served, {})


async def status_of(served: Served, path: str) -> int:
    async with served.client.get(path, headers=served.authorization) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize(
    ("headers", "param"),
    [
        ({"Idempotency-Key": " "}, "Idempotency-Key"),
        ({"Idempotency-Key": "k" * 257}, "Idempotency-Key"),
        ({"x-opensoul-on-disconnect": "stop"}, "x-opensoul-on-disconnect"),
    ],
)
async def test_malformed_headers_are_refused(
    client: Client, headers: dict[str, str], param: str
) -> None:
    reply = await client.chat(headers=headers)

    assert (reply.status, reply.error["param"]) == (400, param)


# The ids of a stream's events


async def test_a_stream_names_the_last_event_of_each_batch(client: Client) -> None:
    reply = await client.chat(stream=True)

    run_id = reply.headers["x-opensoul-run-id"]
    numbers = [int(one.removeprefix(f"{run_id}:")) for one in reply.ids]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 4  # Started, two deltas, Finished.
    assert reply.body.endswith(b"\n\ndata: [DONE]\n\n")


async def test_the_official_client_reads_keepalives_behind_ids(gateway: Harness) -> None:
    gateway.chat(keepalive=0.01)
    gate = asyncio.Event()
    stop = ModelFinished(StopReason.STOP, Usage(1, 1))
    gateway.model.script = (TextDelta("Hel"), gate, TextDelta("lo"), stop)
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=BEARER["Authorization"][7:]) as ai:
        stream = await ai.chat.completions.create(
            model="opensoul", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        text = ""
        async for part in stream:
            text += part.choices[0].delta.content or ""
            if text == "Hel" and not gate.is_set():
                asyncio.get_running_loop().call_later(0.1, gate.set)
    assert text == "Hello"


# Runs that go on, and their events


@pytest.mark.parametrize("headers", [CONTINUE, KEY], ids=["continue", "a key"])
async def test_a_client_that_comes_back_misses_nothing_and_reads_nothing_twice(
    served: Served, provider: FakeProvider, headers: dict[str, str]
) -> None:
    gate = asyncio.Event()
    provider.will(gated(gate, *WORDS))
    async with left_behind(served, headers, WORDS[10]) as (run_id, read):
        before = events_in(read)
    assert (await fetched(served, f"/v1/runs/{run_id}"))[1]["status"] == "running"
    gate.set()

    last = before[-1].id
    rest = await followed(served, f"/v1/runs/{run_id}/events", **{"Last-Event-ID": last})

    text = "".join(event.json["choices"][0]["delta"].get("content", "") for event in before)
    text += "".join(event.json.get("delta", "") for event in rest)
    assert text == "".join(WORDS)
    assert [event.seq for event in rest] == list(
        range(before[-1].seq + 1, before[-1].seq + 1 + len(rest))
    )
    assert {event.json["run_id"] for event in rest} == {run_id}
    assert rest[-1].json["type"] == "finished"
    assert rest[-1].json["text"] == "".join(WORDS)
    assert rest[-1].json["status"] == "finished"


async def test_without_the_header_a_run_ends_with_its_client(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(gated(asyncio.Event(), "Hel", "lo"))
    async with left_behind(served, {}, "Hel") as (run_id, _):
        async with asyncio.timeout(PATIENCE):
            await served.container.run_events().ended(run_id)

    events = await followed(served, f"/v1/runs/{run_id}/events")

    assert events[-1].json["type"] == "aborted"
    assert (events[-1].json["text"], events[-1].json["status"]) == ("Hel", "aborted")


async def test_a_run_goes_on_after_an_orderly_restart(
    tmp_path: Path, provider: FakeProvider
) -> None:
    provider.will(gated(asyncio.Event(), "Hel", "lo"), answer("Hel", "lo"))
    content = config(provider.base_url)
    content["gateway"]["shutdown"] = {"graceSeconds": 0}
    async with serving(tmp_path, content) as served, left_behind(served, KEY, "Hel") as left:
        run_id, _ = left
    async with serving(tmp_path, content) as served:
        events = await followed(served, f"/v1/runs/{run_id}/events")
        assert [event.json["type"] for event in events].count("resumed") == 1
        assert events[-1].json["text"] == "Hello"
        again = await said(served, KEY, stream=True)
        assert (again.id, again.text) == (f"chatcmpl_{run_id}", "Hello")
    assert len(provider.requests) == 2


async def test_a_reader_that_leaves_does_not_stop_a_run_and_keeps_it_while_it_reads(
    served: Served, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(gated(gate, "Hel", "lo"))
    async with served.ask(stream=True) as asked:
        run_id = asked.headers["x-opensoul-run-id"]
        path = f"/v1/runs/{run_id}/events"
        async with served.client.get(path, headers=served.authorization) as response:
            await response.content.readuntil(b"Hel")
            response.close()
        reading = asyncio.create_task(followed(served, path))
        gate.set()
        assert "lo" in await asked.text()
    assert (await reading)[-1].json["text"] == "Hello"


@pytest.mark.parametrize("form", ["{seq}", "{run}:{seq}"])
async def test_events_behind_a_number_are_sent(served: Served, form: str) -> None:
    run_id = (await said(served, {})).id.removeprefix("chatcmpl_")
    path = f"/v1/runs/{run_id}/events"
    every = await followed(served, path)
    assert [event.id for event in every] == [f"{run_id}:{n}" for n in range(1, len(every) + 1)]

    for seq in range(len(every) + 1):
        after = form.format(run=run_id, seq=seq)
        assert await followed(served, f"{path}?after={after}") == every[seq:]
    # A client that connects again by itself repeats the path.
    header = {"Last-Event-ID": every[1].id}
    assert await followed(served, f"{path}?after=0", **header) == every[2:]
    # What it had seen may be lost with the process.
    assert await followed(served, f"{path}?after=99") == every[-1:]


@pytest.mark.parametrize("after", ["-1", "x", "other:1", "1.5", "9" * 30, "%C2%B2"])
async def test_what_is_no_number_of_an_event_is_refused(served: Served, after: str) -> None:
    run_id = (await said(served, {})).id.removeprefix("chatcmpl_")

    status, body = await fetched(served, f"/v1/runs/{run_id}/events?after={after}")

    assert (status, body["error"]["param"]) == (400, "after")


async def test_a_reader_that_lags_is_sent_every_event_once(
    served: Served, provider: FakeProvider
) -> None:
    gate, words = asyncio.Event(), [f"{number:_>1000}" for number in range(2_000)]
    provider.will(gated(gate, *words))
    async with left_behind(served, CONTINUE, words[0]) as (run_id, _):
        pass
    path = f"{served.url}/v1/runs/{run_id}/events"
    async with (
        asyncio.timeout(PATIENCE),
        aiohttp.ClientSession(read_bufsize=1_024, headers=served.authorization) as slow,
        slow.get(path) as response,
    ):
        gate.set()
        await served.container.run_events().ended(run_id)
        events = events_in(await response.text())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert "".join(event.json.get("delta", "") for event in events) == "".join(words)
    assert events[-1].json["text"] == "".join(words)


async def test_silence_between_events_is_filled_with_comments(
    gateway: Harness, client: Client
) -> None:
    gateway.chat(keepalive=0.01)
    gate = asyncio.Event()
    stop = ModelFinished(StopReason.STOP, Usage(1, 1))
    gateway.model.script = (TextDelta("Hel"), gate, TextDelta("lo"), stop)
    asking = asyncio.create_task(client.chat(headers=CONTINUE))
    await gateway.run_log.opened.wait()
    path = f"{gateway.url}/v1/runs/{gateway.run_log.runs[0]}/events"
    async with (
        asyncio.timeout(PATIENCE),
        client.http.get(path, headers=BEARER) as response,
    ):
        before = await response.content.readuntil(b": keepalive\n")
        gate.set()
        rest = await response.text()
    assert (await asking).status == 200
    types = [event.json["type"] for event in events_in(before.decode() + rest)]
    assert types == ["started", "text_delta", "text_delta", "finished"]


async def test_head_does_not_wait_for_the_events(served: Served, provider: FakeProvider) -> None:
    provider.will(gated(asyncio.Event(), "Hel", "lo"))
    async with left_behind(served, CONTINUE, "Hel") as (run_id, _):
        path = f"/v1/runs/{run_id}/events"
        async with asyncio.timeout(PATIENCE):
            async with served.client.head(path, headers=served.authorization) as response:
                assert response.status == 200


async def test_the_number_of_an_event_that_is_to_come_is_refused(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(gated(asyncio.Event(), "Hel", "lo"))
    async with left_behind(served, CONTINUE, "Hel") as (run_id, _):
        pass
    assert (await fetched(served, f"/v1/runs/{run_id}/events?after=99"))[0] == 400


# Runs


async def test_runs_are_listed_page_by_page(served: Served) -> None:
    made = [(await said(served, {})).id.removeprefix("chatcmpl_") for _ in range(5)]
    made.reverse()
    listed: list[str] = []
    after = ""
    while True:
        status, page = await fetched(served, f"/v1/runs?limit=2{after}")
        assert status == 200
        listed += [run["id"] for run in page["data"]]
        assert (page["first_id"], page["last_id"]) == (listed[-len(page["data"])], listed[-1])
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert listed == made
    assert (await fetched(served, "/v1/runs?status=running"))[1]["data"] == []
    (run,) = (await fetched(served, "/v1/runs?status=finished&limit=1"))[1]["data"]
    assert (run["object"], run["status"], run["agent_id"]) == ("run", "finished", "main")
    assert run["created_at"] <= run["started_at"] <= run["ended_at"]
    key = run["session_key"]
    assert [r["id"] for r in (await fetched(served, f"/v1/runs?session_key={key}"))[1]["data"]] == [
        run["id"]
    ]
    assert await fetched(served, f"/v1/runs/{run['id']}") == (200, run)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 400),
        ("limit=501", 400),
        ("limit=x", 400),
        ("status=asleep", 400),
        ("after=nobody", 404),
    ],
)
async def test_malformed_queries_are_refused(client: Client, query: str, status: int) -> None:
    assert (await client.get(f"/v1/runs?{query}")).status == status


@pytest.mark.parametrize(
    ("path", "those"),
    [
        ("?order=asc&limit=1", "`after`"),
        ("/{run_id}?order=asc", "none"),
        ("/{run_id}/events?order=asc&after=0", "`after`"),
    ],
)
async def test_a_query_parameter_that_does_not_exist_is_named(
    served: Served, path: str, those: str
) -> None:
    run_id = (await said(served, {})).id.removeprefix("chatcmpl_")

    status, body = await fetched(served, "/v1/runs" + path.format(run_id=run_id))

    assert (status, body["error"]["param"]) == (400, "order")
    assert those in body["error"]["message"]


async def test_a_run_is_cancelled_once(served: Served, provider: FakeProvider) -> None:
    provider.will(gated(asyncio.Event(), "Hel", "lo"))
    async with left_behind(served, CONTINUE, "Hel") as (run_id, _):
        pass
    for _ in range(2):
        path = f"/v1/runs/{run_id}/cancel"
        async with served.client.post(path, headers=served.authorization) as response:
            assert response.status == 200
            assert await response.json() == {"id": run_id, "status": "aborted"}
    assert (await followed(served, f"/v1/runs/{run_id}/events"))[-1].json["type"] == "aborted"


async def test_a_run_that_has_ended_stays_as_it_is_when_it_is_cancelled(served: Served) -> None:
    run_id = (await said(served, {})).id.removeprefix("chatcmpl_")
    path = f"/v1/runs/{run_id}/cancel"
    async with served.client.post(path, headers=served.authorization) as response:
        assert await response.json() == {"id": run_id, "status": "finished"}


async def test_a_failed_run_ends_with_its_error(served: Served, provider: FakeProvider) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.whole(400, b'{"error":{"message":"no"}}', "application/json", {})

    provider.will(refuse)
    async with served.ask() as response:
        run_id = response.headers["x-opensoul-run-id"]

    *_, last = await followed(served, f"/v1/runs/{run_id}/events")

    assert (last.json["type"], last.json["status"], last.json["text"]) == ("failed", "failed", "")
    assert last.json["error"]["message"]


async def test_runs_of_others_are_unknown(
    shared: Served, people: HeaderAuthenticator, provider: FakeProvider
) -> None:
    people.people["alan"] = replace(PEOPLE["grace"], id="alan", principal="alan")
    grace, alan = through_proxy("grace"), through_proxy("alan")
    runs: dict[str, list[str]] = {"grace": [], "alan": []}
    for name in ("grace", "alan", "grace", "alan"):
        async with ask(shared, through_proxy(name)) as response:
            runs[name].insert(0, response.headers["x-opensoul-run-id"])
    (stolen, *_) = runs["grace"]
    for run_id in (stolen, "never-there"):
        for path in (f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/events", f"/v1/runs?after={run_id}"):
            status, body = await fetched(shared, path, alan)
            assert (status, body["error"]["code"]) == (404, "run_not_found")
        async with shared.client.post(f"/v1/runs/{run_id}/cancel", headers=alan) as response:
            assert (await error_of(response))[:2] == (404, "run_not_found")
    for name, headers in (("grace", grace), ("alan", alan)):
        first = (await fetched(shared, "/v1/runs?limit=1", headers))[1]
        assert [run["id"] for run in first["data"]] == runs[name][:1]
        assert first["has_more"]
        rest = (await fetched(shared, f"/v1/runs?after={runs[name][0]}", headers))[1]
        assert [run["id"] for run in rest["data"]] == runs[name][1:]
        assert not rest["has_more"]
    everything = (await fetched(shared, "/v1/runs"))[1]["data"]
    assert {run["id"] for run in everything} == {*runs["grace"], *runs["alan"]}


async def test_looking_needs_one_scope_and_cancelling_another(
    gateway: Harness, client: Client
) -> None:
    run_id = (await client.chat()).headers["x-opensoul-run-id"]
    gateway.gateway.scopes = frozenset({Scope.READ})

    assert (await client.get("/v1/runs")).status == 200
    assert (await client.get(f"/v1/runs/{run_id}/events")).status == 200
    assert (await client.ask("POST", f"/v1/runs/{run_id}/cancel")).status == 403
    gateway.gateway.scopes = frozenset({Scope.PAIRING})
    for path in ("/v1/runs", f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/events"):
        assert (await client.get(path)).status == 403


async def test_runs_are_switched_off_with_the_endpoints(gateway: Harness, client: Client) -> None:
    gateway.chat(enabled=False)
    gateway.settings = replace(gateway.settings, endpoints=EndpointSettings())
    for path in ("/v1/runs", "/v1/runs/x", "/v1/runs/x/events"):
        reply = await client.get(path)
        assert reply.status == 404
        assert "chatCompletions.enabled" in reply.error["message"]


def test_every_status_is_one_that_is_documented() -> None:
    documented = "queued running waiting finished failed aborted interrupted"
    assert [status.value for status in RunStatus] == documented.split()
