"""Figures of a Gateway of several processes over PostgreSQL, beside one process over SQLite.

    python -m bench.cluster [--quick] [--only NAME ...]

All processes, the database and the clients share this machine, so answers per second do not grow
with processes where there are few cores: the processor time per answer is the figure that does not
depend on that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from opensoul.client import Client, Finished, Started
from opensoul.domain.sessions import SessionKey
from opensoul.domain.settings import LaneSettings
from tests.app.serving import SECRET
from tests.cluster.nodes import SCOPES, Machines, agent, machines, node_config
from tests.e2e.process import GatewayProcess
from tests.fakes.domain import run
from tests.persistence.postgres_runs import node as queue_node
from tests.persistence.postgres_server import private_cluster, server_programs

from . import client as http
from . import proc
from .run import say
from .wire import question

SLOW_DISK = (
    "fsync=on",
    "commit_delay=10000",
    "commit_siblings=0",
    "autovacuum=off",
)
"""A flush of the disk takes 10 ms more."""
AGENTS = {
    "list": [
        {"id": "main", "runner": "echo"},
        agent("scripted:stamped", "stamped"),
    ],
    "defaults": {"maxConcurrent": 64},
}
QUIET = {"logging": {"level": "warn"}}
STREAMS = 16
REMOTE, LOCAL = (
    {"a": "gateway", "w1": "worker"},
    {"n1": "all", "n2": "all"},
)


def several(count: int) -> dict[str, str]:
    return {f"n{number}": "all" for number in range(count)}


@asynccontextmanager
async def cluster(
    roles: dict[str, str], *, options: Sequence[str] | None = None
) -> AsyncIterator[Machines]:
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as home:
        async with machines(
            Path(home),
            roles,
            postgres_options=options,
            agents=AGENTS,
            node={"leaseSeconds": 10},
            **QUIET,
        ) as started:
            yield started


@asynccontextmanager
async def alone() -> AsyncIterator[GatewayProcess]:
    """One process with SQLite."""
    with tempfile.TemporaryDirectory(prefix="bench-alone-") as home:
        config = node_config("all", "alone", {"agents": AGENTS, **QUIET})
        del config["node"]
        async with GatewayProcess(Path(home), json.dumps(config)) as process:
            yield process


class Processes:
    """Processor time of the processes of a Gateway and of its database."""

    def __init__(self, nodes: Iterable[int], postmaster: int | None = None) -> None:
        self._nodes = tuple(nodes)
        self._postmaster = postmaster

    def cpu(self) -> tuple[float, float]:
        """Seconds of the nodes, and of the server with its children, also those that ended."""
        nodes = sum(proc.reading(pid).cpu for pid in self._nodes)
        if self._postmaster is None:
            return nodes, 0.0
        server = [self._postmaster, *_children(self._postmaster)]
        return nodes, sum(map(_cpu_with_ended, server))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def _cpu_with_ended(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def quantiles(values: Sequence[float], *, unit: float = 1_000) -> str:
    """p50 and p99 in milliseconds."""
    ordered = sorted(values)
    last = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {statistics.median(ordered) * unit:.1f}, p99 {last * unit:.1f} ms"


async def load(
    ports: Sequence[int], at_once: int, seconds: float, body: bytes, *, stream: bool = False
) -> int:
    """Answers within that time to so many clients, which stay at their nodes; with `stream` also
    those that were begun within it."""
    answers, over = 0, False

    async def ask(port: int) -> None:
        nonlocal answers
        client = await http.connected(port, SECRET)
        while not over:
            try:
                await client.ask(body, stream=stream)
            except http.Closed:
                client = await http.connected(port, SECRET)
                continue
            answers += stream or not over
        client.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(at_once):
            tasks.create_task(ask(ports[number % len(ports)]))
        await asyncio.sleep(seconds)
        over = True
    return answers


async def throughput(seconds: float) -> None:
    """Answers that are not streamed, each in a session of its own, to 16 clients."""
    body = question("opensoul", stream=False)
    say(f"Answers of the agent `echo`, 16 clients, {seconds:g} s")

    async def measure(name: str, ports: Sequence[int], processes: Processes) -> None:
        await load(ports, 16, seconds / 4, body)
        before = processes.cpu()
        answers = await load(ports, 16, seconds, body)
        nodes, server = (b - a for a, b in zip(before, processes.cpu(), strict=True))
        say(
            f"  {name:<22}{answers / seconds:7.0f} /s   processor ms per answer: nodes "
            f"{nodes * 1_000 / answers:.2f}, database {server * 1_000 / answers:.2f}"
        )

    await _with_processes(measure)


async def _with_processes(
    measure: Callable[[str, Sequence[int], Processes], Awaitable[None]],
) -> None:
    async with alone() as process:
        await measure("SQLite, 1 process", [process.port], Processes([process.pid]))
    for count in (1, 2, 4, 8):
        async with cluster(several(count)) as started:
            nodes = started.nodes.values()
            processes = Processes((one.pid for one in nodes), started.postgres.pid)
            ports = [one.process.port for one in nodes]
            await measure(f"PostgreSQL, {count} processes", ports, processes)


async def runs_of_100_tokens(seconds: float) -> None:
    """Processor time of streams with 50 tokens a second: as many at once, whatever the number of
    processes."""
    body = question("opensoul:stamped", stream=True, text="hello 100 0.02")
    say(f"Runs of 100 tokens, {STREAMS} streams at once, {seconds:g} s")

    async def measure(name: str, ports: Sequence[int], processes: Processes) -> None:
        before = processes.cpu()
        runs = await load(ports, STREAMS, seconds, body, stream=True)
        nodes, server = (b - a for a, b in zip(before, processes.cpu(), strict=True))
        say(
            f"  {name:<22}{runs:5} runs   processor ms per run: nodes "
            f"{nodes * 1_000 / runs:.1f}, database {server * 1_000 / runs:.1f}"
        )

    await _with_processes(measure)


async def first_token(times: int) -> None:
    """Of streams one after the other, each with a session of its own."""
    say(f"First token of {times} streams, one after the other")

    async def measure(name: str, port: int) -> None:
        body = question("opensoul:stamped", stream=True, text="hello 3 0.01")
        client = await http.connected(port, SECRET, timed=True)
        firsts = []
        for number in range(times + 5):
            answered = await client.ask(body, stream=True)
            if number >= 5:  # The first ones open connections.
                firsts.append(answered.first_token or 0.0)
        client.close()
        say(f"  {name:<40}{quantiles(firsts)}")

    await _everywhere(measure)


async def _everywhere(measure: Callable[[str, int], Awaitable[None]]) -> None:
    async with alone() as process:
        await measure("SQLite, one process", process.port)
    async with cluster(LOCAL) as started:
        await measure("PostgreSQL, the same process", started["n1"].process.port)
    async with cluster(REMOTE) as started:
        await measure("PostgreSQL, another process", started["a"].process.port)
    async with cluster(REMOTE, options=SLOW_DISK) as started:
        await measure("the same, flush of 10 ms", started["a"].process.port)


async def hand_over(times: int) -> None:
    """From the end of a turn to the begin of the one that waits behind it."""
    say(f"The next turn of a session, {times} times")

    async def measure(name: str, port: int) -> None:
        gaps = []
        url = f"ws://127.0.0.1:{port}"
        async with Client.connect(url, token=SECRET, scopes=SCOPES) as client:
            for number in range(times):
                key = f"agent:stamped:lane-{number}"
                first = await client.run_agent("hello 10 0.01", session_key=key)
                second = await client.run_agent("hello 1 0", session_key=key)
                ended, begun = await asyncio.gather(_seen(first, Finished), _seen(second, Started))
                gaps.append(max(begun - ended, 0.0))
        say(f"  {name:<40}{quantiles(gaps)}")

    await _everywhere(measure)


async def _seen(run: Any, kind: type) -> float:
    async for event in run.events():
        if isinstance(event, kind):
            return time.perf_counter()
    raise AssertionError(f"the run has no {kind.__name__}")


async def lag(streams: int, seconds: float) -> None:
    """From the writing of a token to its arrival."""
    say(f"{streams} streams with 50 tokens a second each, {seconds:g} s")

    async def measure(name: str, port: int) -> None:
        text = f"hello {int(seconds * 50)} 0.02"
        body = question("opensoul:stamped", stream=True, text=text)

        async def one() -> list[float]:
            client = await http.connected(port, SECRET, timed=True)
            answered = await client.ask(body, stream=True)
            client.close()
            return answered.delays

        delays = [
            d for some in await asyncio.gather(*(one() for _ in range(streams))) for d in some
        ]
        say(f"  {name:<40}{quantiles(delays)}")

    await _everywhere(measure)


async def claims(waiting: int) -> None:
    """What a claim costs that finds nothing behind many waiting runs."""
    programs = server_programs()
    assert programs is not None
    limits = LaneSettings(max_concurrent=500, max_waiting=1_000, max_queued=100_000)
    with private_cluster(programs) as server:
        async with (
            queue_node(server.url, "one", limits=lambda: limits, lease=600) as one,
            queue_node(server.url, "two", limits=lambda: limits, lease=600) as two,
        ):
            for number in range(waiting + 500):
                key = SessionKey("main", f"s{number % 500}")
                await one.queue.enqueue(run(f"r{number}", session_key=key), once=True)
            took = []
            for _ in range(50):
                began = time.perf_counter()
                await two.queue.look()
                took.append(time.perf_counter() - began)
    say(f"A claim behind {waiting} waiting runs of 500 busy sessions", f"  {quantiles(took)}")


async def commits(seconds: float) -> None:
    """Commits a second of 16 clients where a flush of the disk takes 10 ms."""
    async with cluster(several(2), options=SLOW_DISK) as started:
        ports = [one.process.port for one in started.nodes.values()]
        body = question("opensoul", stream=False)
        await load(ports, 16, 1, body)
        before = _transactions(started.postgres.url)
        answers = await load(ports, 16, seconds, body)
        done = _transactions(started.postgres.url) - before
    say(
        "16 clients, a flush of 10 ms",
        f"  {answers / seconds:.0f} answers/s, {done / seconds:.0f} commits/s",
    )


async def idle(seconds: float) -> None:
    """What a node costs that has nothing to do."""
    async with cluster(several(2)) as started:
        processes = Processes((one.pid for one in started.nodes.values()), started.postgres.pid)
        await asyncio.sleep(3)
        before, done = processes.cpu(), _transactions(started.postgres.url)
        await asyncio.sleep(seconds)
        nodes, server = (b - a for a, b in zip(before, processes.cpu(), strict=True))
        done = _transactions(started.postgres.url) - done
    say(
        "A node without work",
        f"  {nodes / 2 / seconds:.1%} of a core, {done / 2 / seconds:.1f} transactions/s; "
        f"the database {server / seconds:.1%} of a core",
    )


def _transactions(url: str) -> int:
    statement = "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database"
    with psycopg.connect(url) as connection:
        row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def cases(*, quick: bool) -> dict[str, Callable[[], Awaitable[None]]]:
    seconds, times = (2.0, 15) if quick else (8.0, 100)
    return {
        "throughput": lambda: throughput(seconds),
        "tokens": lambda: runs_of_100_tokens(seconds * 2),
        "first-token": lambda: first_token(times),
        "hand-over": lambda: hand_over(times // 2),
        "lag": lambda: lag(30, seconds),
        "claims": lambda: claims(1_000 if quick else 10_000),
        "commits": lambda: commits(seconds),
        "idle": lambda: idle(seconds * 2),
    }


async def measure(names: Sequence[str], *, quick: bool) -> None:
    for name, case in cases(quick=quick).items():
        if not names or name in names:
            say(f"[{name}] load of the machine: {os.getloadavg()[0]:.1f}")
            await case()


def main() -> None:
    options = argparse.ArgumentParser(description="Figures of a Gateway of several processes.")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--only", nargs="*", default=(), choices=tuple(cases(quick=True)))
    arguments = options.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(arguments.only, quick=arguments.quick))


if __name__ == "__main__":
    main()
