"""The special cases, which start their own server or prepare its store."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import proc
from .cases import Pace, Rounds
from .process import Server
from .servers import Make
from .wire import CHAT, FAST, RESPONSES, SHORT

_STREAMS = 500
_SESSIONS = 5_000
_MESSAGES = 2_000
_IDLE = 1.5
"""Seconds after the start from which a server counts as idle."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The parameters of special cases. `makes`: factories of servers by name."""

    address: str
    home: Path
    makes: Mapping[str, Make]
    opensoul: Path
    pace: Pace
    long: bool = False
    """Include measurements that take minutes."""

    def start(self, stack: ExitStack, name: str, case: str) -> Server:
        """Start a server with its own state for the lifetime of the stack."""
        return stack.enter_context(self.makes[name](self.address, self.home / f"{name}-{case}"))


def slow_streams(bench: Bench) -> Rounds:
    """500 concurrent streams with a chunk per second: delays of chunks, memory per stream."""
    rounds: Rounds = {}
    for name in bench.makes:
        with ExitStack() as stack:
            server = bench.start(stack, name, "slow")
            server.load(model=FAST, stream=True, concurrency=64, seconds=1.0)
            model = f"slow-{bench.pace.slow_chunks}"
            rounds[name] = [server.load(plan="slow", model=model, concurrency=_STREAMS)]
    return rounds


def long_session(bench: Bench) -> Rounds:
    """Turns in a session of 2,000 messages; the yardstick gets them in the request's body."""
    rounds: Rounds = {name: [] for name in bench.makes}
    with ExitStack() as stack:
        servers = {name: bench.start(stack, name, "long") for name in bench.makes}
        for number in range(bench.pace.rounds):
            for name, server in servers.items():
                server.load(model=SHORT, requests=50)
                empty = server.load(model=SHORT, requests=400)
                if name == "yardstick":
                    full = server.load(model=SHORT, requests=200, messages=_MESSAGES)
                else:
                    full = _in_session(server, f"long-{number}")
                rounds[name].append({"cpu_ms": full["cpu_ms"], "empty_cpu_ms": empty["cpu_ms"]})
    return rounds


def _in_session(server: Server, user: str) -> dict[str, Any]:
    """A hundred turns in a session that was filled by one request."""
    job: dict[str, Any] = {"model": SHORT, "plan": "one", "name": user}
    server.load(**job, requests=1, messages=_MESSAGES - 1)
    return server.load(**job, requests=100)


def resent(bench: Bench) -> Rounds:
    """Turns whose requests have 2,000 messages: as a conversation that goes on in its session,
    as one whose last question is asked again, which begins a branch, and without a session."""
    rounds: Rounds = {"gateway": []}
    job: dict[str, Any] = {"model": SHORT, "messages": _MESSAGES, "requests": 100}
    with ExitStack() as stack:
        server = bench.start(stack, "gateway", "resent")
        for number in range(bench.pace.rounds):
            alone = server.load(**job)
            cpu = {
                plan: server.load(**job, plan=plan, name=f"{plan}-{number}")["cpu_ms"]
                for plan in ("resent", "one")
            }
            figures = {"cpu_ms": cpu["resent"], "branch_cpu_ms": cpu["one"]}
            rounds["gateway"].append(figures | {"alone_cpu_ms": alone["cpu_ms"]})
    return rounds


def many_sessions(bench: Bench) -> Rounds:
    """The cost of a request with 5,000 stored sessions and with none."""
    job: dict[str, Any] = {"model": SHORT, "plan": "memory", "concurrency": 16}
    job |= {"seconds": max(bench.pace.seconds, 2.0), "warm": bench.pace.warm}
    rounds: Rounds = {"gateway": []}
    for number in range(bench.pace.repeats):
        with ExitStack() as stack:
            server = bench.start(stack, "gateway", f"sessions-{number}")
            server.load(model=SHORT, concurrency=16, seconds=2.0)
            before = server.load(**job, name="before")
            server.load(model=SHORT, plan="each", concurrency=16, requests=_SESSIONS, name="kept")
            after = server.load(**job, name="after")
        figures = {"empty_cpu_ms": before["cpu_ms"], "cpu_ms": after["cpu_ms"]}
        rounds["gateway"].append(figures | {"written": after["written"]})
    return rounds


def cold_start(bench: Bench) -> Rounds:
    """Seconds from the start of the process to readiness, to an answer, and to `--version`."""
    rounds: Rounds = {name: [] for name in bench.makes}
    for number in range(bench.pace.repeats):
        for name in bench.makes:
            with ExitStack() as stack:
                server = bench.start(stack, name, f"start-{number}")
                figures = {"ready": server.ready_after, "answer": server.first_answer()}
            rounds[name].append(figures)
        rounds["gateway"][-1]["version"] = _version(bench.opensoul)
    return rounds


def _version(opensoul: Path) -> float:
    began = time.perf_counter()
    command = [str(opensoul), "--version"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return time.perf_counter() - began


def resident(bench: Bench) -> Rounds:
    """Memory: idle, after load, and optionally after 10,000 and 100,000 requests."""
    rounds: Rounds = {}
    for name in bench.makes:
        with ExitStack() as stack:
            server = bench.start(stack, name, "memory")
            time.sleep(_IDLE)
            figures = {"idle": proc.memory(server.pid)["rss"]}
            server.load(model=FAST, stream=True, concurrency=64, seconds=bench.pace.seconds)
            server.load(model=SHORT, concurrency=16, seconds=bench.pace.seconds)
            figures["loaded"] = proc.memory(server.pid)["rss"]
            if bench.long:
                server.load(model=SHORT, concurrency=16, requests=10_000)
                figures["after_10000"] = proc.memory(server.pid)["rss"]
                server.load(model=SHORT, concurrency=16, requests=90_000)
                figures["after_100000"] = proc.memory(server.pid)["rss"]
            figures["peak"] = proc.memory(server.pid)["peak_rss"]
        rounds[name] = [figures]
    return rounds


def responses(bench: Bench) -> Rounds:
    """A stream of 50 chunks as a response, and as a chat completion."""
    job: dict[str, Any] = {"model": FAST, "stream": True, "concurrency": 16}
    job |= {"seconds": bench.pace.seconds, "warm": bench.pace.warm}
    rounds: Rounds = {"gateway": []}
    with ExitStack() as stack:
        server = bench.start(stack, "gateway", "responses")
        for number in range(bench.pace.rounds):
            order = (RESPONSES, CHAT) if number % 2 else (CHAT, RESPONSES)
            cpu = {path: server.load(**job, path=path)["cpu_ms"] for path in order}
            rounds["gateway"].append({"cpu_ms": cpu[RESPONSES], "chat_cpu_ms": cpu[CHAT]})
    return rounds


SPECIAL: Mapping[str, Callable[[Bench], Rounds]] = {
    "cold-start": cold_start,
    "resident": resident,
    "slow-500": slow_streams,
    "session-2000": long_session,
    "resent-2000": resent,
    "sessions-5000": many_sessions,
    "responses-50": responses,
}
