"""Measures the Gateway beside the yardstick: `make bench`, or

    python -m bench.run [--quick] [--only CASE]... [--long]

Prints medians and ratios, and writes every round with a description of the machine to
`bench/results/`. Both servers run at the same time and are loaded alternately, so that other load
of the machine affects both. On a machine with other load, processor time is the most reliable
figure.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from . import machine, servers
from .cases import FULL, LOAD_CASES, QUICK, Pace, Rounds, side_by_side
from .report import figures, load_lines, special_lines
from .special import SPECIAL, Bench

RESULTS = Path(__file__).parent / "results"
OPENSOUL = Path(sys.executable).with_name("opensoul")
"""The command of this environment."""


def measure(bench: Bench, names: list[str]) -> dict[str, Rounds]:
    """Measure the named cases, and print the report of each when it is done."""
    cases: dict[str, Rounds] = {}
    wanted = [name for name in LOAD_CASES if name in names]
    with ExitStack() as stack:
        running = {name: bench.start(stack, name, "load") for name in bench.makes if wanted}
        for server in running.values():
            server.load(model="chunks-1", concurrency=16, seconds=0.5)
        for name in wanted:
            cases[name] = side_by_side(LOAD_CASES[name], running, bench.pace)
            say(*load_lines(name, cases[name]))
    for name in (name for name in SPECIAL if name in names):
        cases[name] = SPECIAL[name](bench)
        say(*special_lines(name, cases[name]))
    return cases


def save(cases: dict[str, Rounds], about: dict[str, Any], kind: str) -> Path:
    """Write the samples. The newest file of a kind has the last name in sorted order."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"{kind}-{now:%Y%m%d-%H%M%S}.json"
    results = {"when": f"{now:%Y-%m-%d %H:%M} UTC", **about, "cases": cases}
    path.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2) + b"\n")
    return path


def parser() -> argparse.ArgumentParser:
    """The parser of `bench.run` and `bench.peers`."""
    made = argparse.ArgumentParser(description="Measure the Gateway beside a bare pass-through.")
    made.add_argument("--quick", action="store_true", help="short rounds: about two minutes")
    made.add_argument("--rounds", type=int, help="how many rounds")
    made.add_argument("--seconds", type=float, help="how long each measurement takes")
    made.add_argument(
        "--opensoul",
        type=Path,
        default=OPENSOUL,
        help="the command to measure, where it is not the one of this environment",
    )
    made.add_argument("--label", default="", help="kept with the results")
    made.add_argument("--dry", action="store_true", help="write no results")
    return made


def pace_of(arguments: argparse.Namespace) -> Pace:
    base = QUICK if arguments.quick else FULL
    return Pace(
        rounds=arguments.rounds or base.rounds,
        seconds=arguments.seconds or base.seconds,
        warm=base.warm,
        repeats=base.repeats,
        slow_chunks=base.slow_chunks,
    )


def about(arguments: argparse.Namespace, pace: Pace) -> dict[str, Any]:
    """The description that is stored with the samples."""
    return {
        "label": arguments.label,
        # Unknown for another installation.
        "commit": machine.commit() if arguments.opensoul == OPENSOUL else None,
        "machine": machine.machine(),
        "pace": {"rounds": pace.rounds, "seconds": pace.seconds, "warm": pace.warm},
    }


def main() -> None:
    options = parser()
    options.add_argument("--only", action="append", metavar="CASE", choices=[*LOAD_CASES, *SPECIAL])
    options.add_argument("--long", action="store_true", help="100,000 requests for the memory")
    arguments = options.parse_args()
    pace = pace_of(arguments)
    description = about(arguments, pace)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        home = Path(folder)
        address = servers.started(stack, home)
        makes = {"yardstick": servers.yardstick, "gateway": servers.gateway(arguments.opensoul)}
        bench = Bench(address, home, makes, arguments.opensoul, pace, arguments.long)
        cases = measure(bench, arguments.only or [*LOAD_CASES, *SPECIAL])
    say("Wanted", *(figure.line for figure in figures(cases)))
    if not arguments.dry:
        say(f"Samples: bench/results/{save(cases, description, 'run').name}")


def say(*lines: str) -> None:
    """Print and flush, since the next measurement takes a while."""
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
