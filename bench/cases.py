"""The load cases, which compare several servers round by round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .process import Server
from .wire import FAST, PACED, SHORT

Round = dict[str, Any]
"""The figures of one measurement."""

Rounds = dict[str, list[Round]]
"""Rounds by server name; equal indexes were measured at about the same time."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The duration and number of measurements. Times are in seconds."""

    rounds: int
    seconds: float
    warm: float
    repeats: int
    """Repetitions of cases that start a server."""
    slow_chunks: int


FULL = Pace(rounds=5, seconds=4.0, warm=1.0, repeats=5, slow_chunks=30)
QUICK = Pace(rounds=2, seconds=0.8, warm=0.2, repeats=2, slow_chunks=10)


@dataclass(frozen=True, slots=True)
class Case:
    """A load. `job` are fields of the load generator's Job."""

    name: str
    title: str
    job: Mapping[str, Any] = field(default_factory=dict)


def _load_cases() -> Iterable[Case]:
    for count in (1, 16, 64):
        yield Case(
            f"nonstream-{count}",
            f"non-streaming, {count} at a time",
            {"model": SHORT, "concurrency": count},
        )
    for count in (1, 16, 64):
        yield Case(
            f"stream-{count}",
            f"stream of 50 chunks, {count} at a time",
            {"model": FAST, "stream": True, "concurrency": count},
        )
    yield Case(
        "paced-16",
        "stream of 50 chunks that come one by one, 16 at a time",
        {"model": PACED, "stream": True, "concurrency": 16},
    )
    yield Case(
        "collected-16",
        "non-streaming of 50 chunks, 16 at a time",
        {"model": FAST, "concurrency": 16},
    )
    for name, model, stream in (("nonstream", SHORT, False), ("stream", FAST, True)):
        yield Case(
            f"memory-{name}-16",
            f"the same with memory, {name}, 16 at a time",
            {"model": model, "stream": stream, "concurrency": 16, "plan": "memory"},
        )


LOAD_CASES = {case.name: case for case in _load_cases()}
PEER_CASES = ("nonstream-1", "nonstream-16", "stream-1", "stream-16")


def side_by_side(case: Case, servers: Mapping[str, Server], pace: Pace) -> Rounds:
    """Measure the servers in turn, in reverse order in every second round."""
    rounds: Rounds = {name: [] for name in servers}
    for number in range(pace.rounds):
        order = list(servers)
        if number % 2:
            order.reverse()
        for name in order:
            figures = servers[name].load(
                seconds=pace.seconds, warm=pace.warm, name=f"{case.name}-{number}", **case.job
            )
            rounds[name].append(figures)
    return rounds
