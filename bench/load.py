"""The load generator: a process that executes one Job and prints its measurements as JSON.

    python -m bench.load < job.json

Only the steady state is measured: workers start and warm up before the measured period. The
server's figures are read from the operating system at the beginning and end of that period.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvloop

from . import proc
from .client import Answered, Closed, connected
from .wire import CHAT, FAST, TOKEN, conversation, long_question, question

TURNS = 10
"""A conversation of the plan `memory` has so many turns: its cost does not grow with the time
that is measured for."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to do to the server of process `pid`.

    `plan`: `stateless`; `memory` (each worker is a user of its own, and another one after TURNS
    turns); `each` (every request is another user); `one` (all are the user `name`); `resent` (the
    same, and each resends the conversation with the answers before); `slow`.
    It ends after `seconds`, or after `requests`, whichever is given.
    """

    port: int
    pid: int
    token: str
    path: str = CHAT
    plan: str = "stateless"
    model: str = FAST
    stream: bool = False
    concurrency: int = 1
    seconds: float = 0.0
    requests: int = 0
    warm: float = 0.0
    messages: int = 0
    """Sent along with every request, before its own."""
    text: str = "Hello!"
    """The message."""
    name: str = "user"
    ramp: float = 5.0
    """Seconds over which the starts of slow streams are spread, to avoid a burst."""


@dataclass(slots=True)
class _Tally:
    measuring: bool = False
    stopping: bool = False
    requested: int = 0
    answers: list[Answered] = field(default_factory=list)


def bodies(job: Job, worker: int) -> Iterator[bytes]:
    """An endless sequence of a worker's request bodies."""
    if job.plan == "resent":
        yield from _resent(job)
    for turn in itertools.count():
        user = {
            "memory": f"{job.name}-{worker}-{turn // TURNS}",
            "each": f"{job.name}-{worker}-{turn}",
            "one": job.name,
        }.get(job.plan)
        if user is None or job.plan == "one":
            # Encode a constant body once, since encoding costs more than sending.
            if job.messages:
                yield from itertools.repeat(
                    long_question(job.model, conversation(job.messages), user=user)
                )
            yield from itertools.repeat(
                question(job.model, stream=job.stream, user=user, text=job.text, path=job.path)
            )
        yield question(job.model, stream=job.stream, user=user, text=job.text, path=job.path)


def _resent(job: Job) -> Iterator[bytes]:
    said = conversation(job.messages)
    while True:
        yield long_question(job.model, said, user=job.name)
        said.append({"role": "user", "content": "Hello!"})
        said.append({"role": "assistant", "content": TOKEN.decode()})


async def _work(job: Job, worker: int, tally: _Tally) -> None:
    client = await connected(job.port, job.token, path=job.path)
    for body in bodies(job, worker):
        if tally.stopping or (job.requests and tally.requested >= job.requests):
            break
        tally.requested += 1
        try:
            answered = await client.ask(body, stream=job.stream)
        except Closed:  # hypercorn does so after 1,000 requests.
            client = await connected(job.port, job.token, path=job.path)
            answered = await client.ask(body, stream=job.stream)
        if tally.measuring and not tally.stopping:
            tally.answers.append(answered)
    client.close()


async def measure(job: Job) -> dict[str, Any]:
    """Execute the job. Raises AnswerWrong at the first wrong response."""
    tally = _Tally(measuring=not job.warm)
    before, began, own = proc.reading(job.pid), time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as workers:
        for worker in range(job.concurrency):
            workers.create_task(_work(job, worker, tally))
        if job.warm:
            await asyncio.sleep(job.warm)
            before, began, own = proc.reading(job.pid), time.perf_counter(), time.process_time()
            tally.measuring = True
        if job.seconds:
            await asyncio.sleep(job.seconds)
            after, ended = proc.reading(job.pid), time.perf_counter()
            own = time.process_time() - own
            tally.stopping = True
    if not job.seconds:
        after, ended = proc.reading(job.pid), time.perf_counter()
        own = time.process_time() - own
    return _figures(tally.answers, before, after, ended - began, own) | proc.memory(job.pid)


def _figures(
    answers: list[Answered], before: proc.Reading, after: proc.Reading, elapsed: float, own: float
) -> dict[str, Any]:
    count = max(len(answers), 1)
    firsts = [answer.first_token for answer in answers if answer.first_token is not None]
    return {
        "requests": len(answers),
        "seconds": elapsed,
        "rps": len(answers) / elapsed,
        "cpu_ms": (after.cpu - before.cpu) / count * 1_000,
        "busy": (after.cpu - before.cpu) / elapsed,
        "client_busy": own / elapsed,
        "written": (after.written - before.written) / count,
        "latency_ms": _spread([answer.took for answer in answers]),
        "first_token_ms": _spread(firsts),
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    """Percentiles, in milliseconds."""
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    at = {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(seconds)}
    return {name: value * 1_000 for name, value in at.items()}


async def measure_slow(job: Job) -> dict[str, Any]:
    """Measure the delay of chunks, and the memory per stream, of many concurrent slow streams."""
    rss = proc.memory(job.pid)["rss"]
    before, began = proc.reading(job.pid), time.perf_counter()
    delays: list[float] = []
    highest = rss

    async def follow() -> None:
        client = await connected(job.port, job.token, timed=True)
        delays.extend((await client.ask(question(job.model, stream=True), stream=True)).delays)
        client.close()

    async with asyncio.TaskGroup() as streams:
        tasks = []
        for _ in range(job.concurrency):
            tasks.append(streams.create_task(follow()))
            await asyncio.sleep(job.ramp / job.concurrency)
        while not all(task.done() for task in tasks):
            highest = max(highest, proc.memory(job.pid)["rss"])
            await asyncio.sleep(0.25)
    after, elapsed = proc.reading(job.pid), time.perf_counter() - began
    return {
        "streams": job.concurrency,
        "chunks": len(delays),
        "delay_ms": _spread(delays),
        "within_100_ms": sum(delay <= 0.1 for delay in delays) / max(len(delays), 1),
        "bytes_per_stream": (highest - rss) / job.concurrency,
        "busy": (after.cpu - before.cpu) / elapsed,
    } | proc.memory(job.pid)


def main() -> None:
    job = Job(**orjson.loads(sys.stdin.buffer.read()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(measure_slow(job) if job.plan == "slow" else measure(job))
    sys.stdout.buffer.write(orjson.dumps(figures))


if __name__ == "__main__":
    main()
