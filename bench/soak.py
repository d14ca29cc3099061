"""A mixed load at a limited rate for a long time, to detect growth of the Gateway.

    python -m bench.soak [--minutes 20] [--rate 20] [--every 10] [--out FILE]

The load is that of bench/mixed.py; sessions are deleted regularly, so that the sizes of all files
are bounded. Resident memory, open descriptors, threads and the sizes of the databases are sampled;
after a warm-up each must be flat (bench/flatness.py). The record of a run is stored for at least an
hour, so runs.sqlite3 may grow by RUN_BYTES per run. The exit status is 1 if a figure is not flat or
a client received a wrong answer.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from . import machine, proc
from .flatness import WARM_UP, Allowance, Trend, trend
from .invariants import DATABASES, Observations, call_violations, event_violations
from .mixed import CONTROL_WORKERS, HTTP_WORKERS, Load, gateway_server, provider_of
from .process import Server
from .run import OPENSOUL, say

MIB = 1_048_576
RUN_BYTES = 1_024
"""The size of a run's row and its index entries in runs.sqlite3, rounded up."""
_DATABASE = Allowance(0.1, 2 * MIB)
_LOG = Allowance(0.1, 8 * MIB)
"""A write-ahead log grows to the size of its largest transaction between two checkpoints."""
ALLOWANCES: Mapping[str, Allowance] = {
    "rss": Allowance(0.1, 16 * MIB),
    "descriptors": Allowance(0.1, 10),
    "threads": Allowance(0.0, 4),
    **dict.fromkeys(DATABASES, _DATABASE),
    **{f"{name}-wal": _LOG for name in DATABASES},
}

Sample = dict[str, float]


def sample(server: Server, seen: Observations) -> Sample:
    """The present figures. Raises OSError if the process has ended."""
    state = server.home / "state"
    files = [name for database in DATABASES for name in (database, f"{database}-wal")]
    sizes = {name: _size(state / name) for name in files}
    rss = proc.memory(server.pid)["rss"]
    runs = sum(seen.calls.values())
    return {"at": time.monotonic(), "runs": runs, "rss": rss, **proc.held(server.pid), **sizes}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def trends(samples: Sequence[Sample]) -> dict[str, Trend]:
    """The trend of each figure. Raises ValueError if there are too few samples."""
    times = [one["at"] for one in samples]
    runs = (samples[-1]["runs"] - samples[0]["runs"]) * (1 - WARM_UP) if samples else 0.0
    allowances = dict(ALLOWANCES)
    allowances["runs.sqlite3"] = Allowance(_DATABASE.ratio, _DATABASE.least + runs * RUN_BYTES)
    return {
        name: trend(times, [one[name] for one in samples], allowance)
        for name, allowance in allowances.items()
    }


def line(name: str, found: Trend) -> str:
    """A trend for a person."""
    unit, size = (" MiB", MIB) if name not in ("descriptors", "threads") else ("", 1)
    verdict = "flat" if found.flat else "NOT FLAT"
    return (
        f"{name:20} {verdict:8}  median {found.median / size:.1f}{unit}, growth "
        f"{found.growth / size:+.1f}{unit}, allowed {found.allowed / size:.1f}{unit}"
    )


async def watch(server: Server, load: Load, seconds: float, every: float) -> list[Sample]:
    """Sample for `seconds` under load. Raises the error that ended the load early, if any."""
    samples: list[Sample] = []
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(over))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(every)
            samples.append(sample(server, load.seen))
        over.set()
    return samples


async def measure(arguments: argparse.Namespace, home: Path) -> int:
    """Run the soak test; returns the number of figures that are not flat plus wrong answers."""
    seen = Observations()
    pause = (HTTP_WORKERS + CONTROL_WORKERS) / arguments.rate
    chance = random.Random(arguments.seed)  # noqa: S311 - no secrets
    methods = ("sessions.compact", "sessions.reset", "sessions.delete", "sessions.delete")
    load = Load(seen, chance, pause, methods, maintenance_pause=2.0)
    async with provider_of(seen) as provider:
        runs = {"keepHours": 1, "keepMegabytes": 1}
        server = gateway_server(arguments.opensoul, home, provider.base_url, runs=runs)
        await asyncio.to_thread(server.__enter__)
        try:
            load.port = server.port
            samples = await watch(server, load, arguments.minutes * 60, arguments.every)
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)
    found = trends(samples)
    followed = seen.followed.values()
    wrong = [*seen.wrong, *call_violations(seen), *event_violations(followed)]
    rising = [name for name, one in found.items() if not one.flat]
    say(*(line(name, one) for name, one in found.items()))
    if wrong:
        say(*wrong[:50])
    counts = ", ".join(f"{name} {count}" for name, count in sorted(seen.counts.items()))
    runs_done = sum(seen.calls.values())
    say(
        f"{arguments.minutes:g} minutes, {runs_done} runs ({counts}), {len(samples)} samples: "
        f"{len(rising)} not flat, {len(wrong)} wrong"
    )
    if arguments.out:
        told = {"machine": machine.machine(), "seed": arguments.seed, "samples": samples}
        arguments.out.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
    return len(rising) + len(wrong)


def main() -> None:
    options = argparse.ArgumentParser(description="Watch the Gateway under a long mixed load.")
    options.add_argument("--minutes", type=float, default=20.0)
    options.add_argument("--rate", type=float, default=20.0, help="operations a second at most")
    options.add_argument("--every", type=float, default=10.0, help="seconds between two samples")
    options.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    options.add_argument("--out", type=Path, help="write the samples to this file as JSON")
    options.add_argument("--opensoul", type=Path, default=OPENSOUL, help="the command to start")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as home:
        sys.exit(1 if asyncio.run(measure(arguments, Path(home))) else 0)


if __name__ == "__main__":
    main()
