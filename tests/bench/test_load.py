"""The load generator, the mock provider and the yardstick, as processes that meet."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from bench import servers
from bench.client import AnswerWrong, connected
from bench.load import TURNS, Job, bodies
from bench.process import Server, ServerFailed
from bench.wire import FAST, SHORT, question
from bench.yardstick import server_config
from opensoul.app.server.host import hypercorn_config
from opensoul.domain.settings import ListenSettings

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="the benchmark reads /proc"
)


@pytest.fixture(scope="module")
def yardstick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("bench")
    with ExitStack() as stack:
        address = servers.started(stack, home)
        yield stack.enter_context(servers.yardstick(address, home))


def test_the_yardstick_is_set_up_as_the_gateway_is() -> None:
    ours, its = hypercorn_config(ListenSettings()), server_config(1)
    for name in ("backlog", "keep_alive_timeout", "include_server_header", "accesslog", "workers"):
        assert getattr(its, name) == getattr(ours, name), name
    assert its.keep_alive_max_requests == ours.keep_alive_max_requests


@pytest.mark.parametrize("stream", [True, False])
def test_a_load_is_measured(yardstick: Server, stream: bool) -> None:
    told = yardstick.load(model=FAST, stream=stream, concurrency=2, requests=20)
    assert told["requests"] == 20
    assert told["rps"] > 0
    assert 0 < told["first_token_ms"]["p50"] <= told["latency_ms"]["p50"]
    assert told["rss"] > 1_000_000


def test_a_load_ends_with_its_time(yardstick: Server) -> None:
    told = yardstick.load(model=SHORT, seconds=0.2, warm=0.1)
    assert told["requests"] > 0
    assert told["seconds"] == pytest.approx(0.2, abs=5)


def test_a_client_outlives_its_connection(yardstick: Server) -> None:
    limit = server_config(1).keep_alive_max_requests
    assert yardstick.load(model=SHORT, requests=limit + 5)["requests"] == limit + 5


def test_slow_streams_tell_how_late_their_chunks_come(yardstick: Server) -> None:
    told = yardstick.load(plan="slow", model="slow-1", concurrency=3, ramp=0.0)
    assert told["chunks"] == 3
    assert told["delay_ms"]["p50"] > 0
    assert 0 <= told["within_100_ms"] <= 1


def test_a_server_that_does_not_start_is_named(tmp_path: Path) -> None:
    broken = Server("broken", ["/bin/sh", "-c", "echo no luck; exit 1"], 1, tmp_path)
    with pytest.raises(ServerFailed, match=r"broken did not start:\nno luck"), broken:
        pass


async def test_an_answer_that_is_none_ends_the_load() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        client = await connected(server.sockets[0].getsockname()[1], "token")
        with pytest.raises(AnswerWrong, match="503"):
            await client.ask(question(SHORT, stream=False), stream=False)
        client.close()


@pytest.mark.e2e
def test_each_plan_asks_as_its_users_would() -> None:
    def users(plan: str, worker: int = 0) -> list[str | None]:
        job = Job(port=1, pid=1, token="t", plan=plan)
        asked = itertools.islice(bodies(job, worker), TURNS + 1)
        return [orjson.loads(body).get("user") for body in asked]

    assert set(users("stateless")) == {None}
    assert set(users("one")) == {"user"}
    assert len(set(users("each"))) == TURNS + 1
    memory = users("memory")
    assert len(set(memory[:TURNS])) == 1
    assert memory[TURNS] != memory[0]
    assert not {*memory} & {*users("memory", worker=1)}
