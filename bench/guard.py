"""Checks the cost of the hot path in continuous integration, independently of any clock.

    python -m bench.guard [--update]

Counts the calls of Python and C functions of one run of 50 chunks from `Gateway.submit` to its
frames, in this process, with a scripted model. The number is the same on every machine and hardly
depends on how writes are batched. No figure may exceed the one in `baseline.json` for this version
of Python by more than a quarter:

    calls   with the stores in memory
    stored  with SQLite, including the writing threads

`--update` rewrites the baseline; commit it together with the reason.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType

import orjson

from opensoul.domain.settings import StoreSettings

from .hotpath import answer, gateway

BASELINE = Path(__file__).with_name("baseline.json")
ALLOWED = 1.25
_RUNS = 20


class Calls:
    """Counts function calls in this thread and in threads that start while it is active."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Calls:
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if event.endswith("call"):
            self.count += 1


async def calls_of_a_request(store: StoreSettings) -> float:
    """The calls of a request after the first one, including those of the storing threads."""
    with Calls() as calls:
        async with gateway(store) as served:
            await answer(served)
            before = calls.count
            for _ in range(_RUNS):
                await answer(served)
            return (calls.count - before) / _RUNS


async def measured() -> dict[str, float]:
    """Every guarded figure."""
    calls = await calls_of_a_request(StoreSettings(memory=True))
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        stored = await calls_of_a_request(StoreSettings(path=f"{folder}/guard.db"))
    return {"calls": calls, "stored": stored}


def verdicts(figures: dict[str, float], wanted: dict[str, float]) -> list[str]:
    """A line for each figure that exceeds its limit."""
    return [
        f"{name}: {figure:.4g} is more than {ALLOWED:g} times the baseline {wanted[name]:.4g}"
        for name, figure in figures.items()
        if name in wanted and figure > ALLOWED * wanted[name]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Fail when the hot path has become dearer.")
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    updating = parser.parse_args().update
    logging.disable()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    known: dict[str, dict[str, float]] = {}
    if BASELINE.exists():
        known = orjson.loads(BASELINE.read_bytes())
    figures = asyncio.run(measured())
    _say(f"Python {version}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
    if updating:
        known[version] = {name: round(figure, 3) for name, figure in figures.items()}
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
        BASELINE.write_bytes(orjson.dumps(known, option=options) + b"\n")
        return 0
    if version not in known:
        _say(f"There is no baseline for Python {version}: nothing to compare with.")
        return 0
    dearer = verdicts(figures, known[version])
    _say(*dearer)
    return 1 if dearer else 0


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
