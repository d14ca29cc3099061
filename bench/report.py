"""Reports: medians, ratios round by round, and the comparison with the targets."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .cases import LOAD_CASES, Round, Rounds

Cases = Mapping[str, Rounds]


def value(samples: Round, path: str) -> float:
    """The figure at a path such as `latency_ms.p50`."""
    found: object = samples
    for step in path.split("."):
        found = found[step]  # type: ignore[index]
    assert isinstance(found, int | float)
    return float(found)


def median(rounds: Sequence[Round], path: str) -> float:
    return statistics.median(value(samples, path) for samples in rounds)


def ratios(rounds: Rounds, path: str, name: str = "gateway") -> list[float]:
    """The server's figure divided by the yardstick's, round by round."""
    pairs = zip(rounds[name], rounds["yardstick"], strict=True)
    return [value(a, path) / max(value(b, path), 1e-9) for a, b in pairs]


def load_lines(name: str, rounds: Rounds) -> Iterator[str]:
    """The report of a load case."""
    yield f"{LOAD_CASES[name].title} [{name}]"
    for server, samples in rounds.items():
        line = f"  {server:<10}{median(samples, 'rps'):8.0f} /s"
        line += f" {median(samples, 'cpu_ms'):7.2f} ms CPU"
        line += f"   p50 {median(samples, 'latency_ms.p50'):7.2f}  p99 "
        line += f"{median(samples, 'latency_ms.p99'):7.2f}  first token "
        line += (
            f"{median(samples, 'first_token_ms.p50'):6.2f} ms  busy {median(samples, 'busy'):4.2f}"
        )
        yield line + f"  written {median(samples, 'written') / 1_000:5.1f} kB"
    if "yardstick" in rounds:
        for server in rounds.keys() - {"yardstick"}:
            yield f"  {server}: throughput  {_ratio_text(ratios(rounds, 'rps', server))}"
            yield f"  {server}: CPU         {_ratio_text(ratios(rounds, 'cpu_ms', server))}"


def _ratio_text(figures: Sequence[float]) -> str:
    each = " ".join(f"{figure:.2f}" for figure in figures)
    return f"x {statistics.median(figures):.2f}   (rounds: {each})"


def special_lines(name: str, rounds: Rounds) -> Iterator[str]:
    """The report of a special case: every figure's median."""
    yield name
    for server, samples in rounds.items():
        flat = [dict(_flat(each)) for each in samples]
        shown = [f"{key} {_short(key, median(flat, key))}" for key in flat[0]]
        yield f"  {server:<10}" + ", ".join(shown)


def _flat(samples: Round) -> Iterator[tuple[str, float]]:
    for key, found in samples.items():
        if isinstance(found, dict):
            yield from ((f"{key} {inner}", each) for inner, each in found.items())
        else:
            yield key, found


_MEMORY = frozenset({"rss", "peak_rss", "idle", "loaded", "peak", "after_10000", "after_100000"})


def _short(key: str, figure: float) -> str:
    if key in _MEMORY:
        return f"{figure / 1e6:.1f} MB"
    if key in ("bytes_per_stream", "written"):
        return f"{figure / 1e3:.1f} kB"
    if key in ("ready", "answer", "version"):
        return f"{figure:.2f} s"
    return f"{figure:,.4g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A target and the measured figure. `most`: the target is an upper limit."""

    name: str
    reached: float
    limit: float
    most: bool

    @property
    def met(self) -> bool:
        return self.reached <= self.limit if self.most else self.reached >= self.limit

    @property
    def line(self) -> str:
        sign = "at most" if self.most else "at least"
        verdict = "ok" if self.met else "MISSED"
        return f"  {verdict:<7}{self.name}: {self.reached:.3g} ({sign} {self.limit:g})"


def figures(cases: Cases) -> Iterator[Figure]:
    """The measured figures with their targets; cases that were not measured are omitted."""
    yield from _load_figures(cases)
    if rounds := cases.get("slow-500"):
        samples = rounds["gateway"]
        yield Figure(
            "500 slow streams, part within 100 ms", median(samples, "within_100_ms"), 0.99, False
        )
        size = median(samples, "bytes_per_stream") / 1_000
        yield Figure("500 slow streams, kB for each", size, 60, True)
    if rounds := cases.get("session-2000"):
        yield Figure("session of 2,000 messages, CPU to an empty one", _long(rounds), 1.5, True)
    if rounds := cases.get("resent-2000"):
        for key, name in (("cpu_ms", "resent in a session"), ("branch_cpu_ms", "asked again")):
            ratio = statistics.median(
                each[key] / each["alone_cpu_ms"] for each in rounds["gateway"]
            )
            yield Figure(f"2,000 messages {name}, CPU to a request without one", ratio, 1.3, True)
    if rounds := cases.get("sessions-5000"):
        samples = rounds["gateway"]
        ratio = statistics.median(each["cpu_ms"] / each["empty_cpu_ms"] for each in samples)
        yield Figure("5,000 stored sessions, CPU to none", ratio, 1.1, True)
    if rounds := cases.get("responses-50"):
        samples = rounds["gateway"]
        ratio = statistics.median(each["cpu_ms"] / each["chat_cpu_ms"] for each in samples)
        yield Figure("50 chunks of a response, CPU to chat", ratio, 1.25, True)
    if rounds := cases.get("resident"):
        samples = rounds["gateway"]
        yield Figure("memory idle, MB", median(samples, "idle") / 1e6, 110, True)
        if "after_100000" in samples[0]:
            growth = median(samples, "after_100000") / median(samples, "after_10000")
            yield Figure("memory, 100,000 requests to 10,000", growth, 1.05, True)
    if rounds := cases.get("cold-start"):
        samples = rounds["gateway"]
        yield Figure("start to ready, s", median(samples, "ready"), 0.8, True)
        yield Figure("--version, s", median(samples, "version"), 0.3, True)


def _load_figures(cases: Cases) -> Iterator[Figure]:
    for name, least in (("stream-16", 0.6), ("stream-64", 0.6), ("nonstream-16", 0.45)):
        if rounds := cases.get(name):
            reached = statistics.median(ratios(rounds, "rps"))
            yield Figure(f"{name}, throughput to the yardstick", reached, least, False)
    for name in ("stream-16", "stream-64"):
        if rounds := cases.get(name):
            reached = statistics.median(ratios(rounds, "cpu_ms"))
            yield Figure(f"{name}, CPU to the yardstick", reached, 1.7, True)
    if rounds := cases.get("stream-1"):
        path = "first_token_ms.p50"
        later = median(rounds["gateway"], path) - median(rounds["yardstick"], path)
        yield Figure("first token later by, ms", later, 1.5, True)
    for name, most in (("nonstream-16", 60), ("stream-16", 150)):
        if rounds := cases.get(name):
            written = median(rounds["gateway"], "written") / 1_000
            yield Figure(f"{name}, kB written per request", written, most, True)


def _long(rounds: Rounds) -> float:
    """The cost of a turn in a long session relative to one in an empty session, minus the
    yardstick's cost of the longer body."""
    each: list[float] = [
        (theirs["cpu_ms"] - (bare["cpu_ms"] - bare["empty_cpu_ms"])) / theirs["empty_cpu_ms"]
        for theirs, bare in zip(rounds["gateway"], rounds["yardstick"], strict=True)
    ]
    return statistics.median(each)
