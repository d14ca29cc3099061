"""`kill -9` at random moments under a mixed load, repeatedly on one state directory.

    python -m bench.chaos [--kills 300] [--seed N] [--check-every 5] [--keep FOLDER]

The Gateway starts, serves chat completions, `agent` runs with idempotency keys, followers,
compactions and resets, and is killed; then it starts again. After every start, no run may be
without a terminal event; after every few kills, and at the end, the databases must contain what
the clients know (see bench/invariants.py). The exit status is 1 after a violation.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from opensoul.client import Client

from . import invariants
from .invariants import Observations
from .mixed import Load, gateway_server, provider_of
from .process import TOKEN, Server
from .run import OPENSOUL, say

_EARLY = 0.15
"""The share of kills before the Gateway serves."""
_LONGEST_LIFE = 1.5
_PRINTED = 50
"""Violations that are printed at most."""


@dataclass
class Chaos:
    """One series of kills. `chance` determines the times of the kills; the scheduling of three
    processes is not reproducible."""

    home: Path
    base_url: str
    opensoul: Path
    seen: Observations
    chance: random.Random
    violations: list[str] = field(default_factory=list)
    start: float = 1.0
    """The duration of the last complete start in seconds."""

    def __post_init__(self) -> None:
        self.load = Load(self.seen, self.chance)

    async def run(self, kills: int, check_every: int) -> None:
        for kill in range(1, kills + 1):
            if self.chance.random() < _EARLY:
                await self._early_death()
            else:
                await self._life()
            if kill % check_every == 0 or kill == kills:
                await asyncio.to_thread(self._check)
                say(f"{kill} kills: {summary(self.seen, self.violations)}")
        await self._last_life()

    def server(self) -> Server:
        return gateway_server(self.opensoul, self.home, self.base_url)

    async def _early_death(self) -> None:
        server = self.server()
        server.launch()
        await asyncio.sleep(self.chance.uniform(0, self.start))
        await asyncio.to_thread(server.kill)
        self.seen.counts["killed while starting"] += 1

    async def _life(self) -> None:
        server = await self._started()
        over = asyncio.Event()
        try:
            await self._check_recovery(server)
            self.load.port = server.port
            loading = asyncio.create_task(self.load.run(over))
            await asyncio.wait((loading,), timeout=self.chance.uniform(0.02, _LONGEST_LIFE))
        finally:
            await asyncio.to_thread(server.kill)
            # Read the responses that were sent before the kill.
            await asyncio.sleep(0.05)
            over.set()
        await loading

    async def _last_life(self) -> None:
        """Complete everything unsettled without a kill, and stop the Gateway cleanly."""
        server = await self._started()
        try:
            await self._check_recovery(server)
            self.load.port = server.port
            await self.load.settle()
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)
        await asyncio.to_thread(self._check, final=True)

    async def _started(self) -> Server:
        server = self.server()
        await asyncio.to_thread(server.__enter__)
        self.start = server.ready_after
        return server

    async def _check_recovery(self, server: Server) -> None:
        """Check right after a start, when every listed run is from an earlier process: those under
        a key go on, and no others."""
        address = f"ws://127.0.0.1:{server.port}"
        async with Client.connect(address, token=TOKEN, reconnect=False) as client:
            for status in ("queued", "running"):
                for run in (await client.call("runs.list", {"status": status}))["runs"]:
                    if run["runId"] in self.seen.keyed:
                        continue
                    self.violations.append(f"run {run['runId']} is left {status} after a start")

    def _check(self, *, final: bool = False) -> None:
        self.violations += self._violations(final=final)

    def _violations(self, *, final: bool) -> Iterator[str]:
        """Check copies of the databases: opening the originals would run SQLite's recovery."""
        state = self.home / "state"
        with tempfile.TemporaryDirectory(prefix="chaos-check-") as name:
            copy = Path(name)
            for path in itertools.chain(*(state.glob(f"{db}*") for db in invariants.DATABASES)):
                shutil.copy(path, copy)
            yield from invariants.database_violations(copy)
            turns = invariants.stored_turns(copy / invariants.DATABASES[0])
            yield from invariants.turn_violations(self.seen, turns)
            if final:
                yield from invariants.unfinished_violations(copy)
        yield from invariants.call_violations(self.seen)
        yield from invariants.event_violations(self.seen.followed.values(), final=final)
        log = self.home / "log" / "gateway.log"
        if final and (count := log.read_text(errors="replace").count("Traceback")):
            yield f"the Gateway logged {count} tracebacks ({log})"


def summary(seen: Observations, violations: list[str]) -> str:
    """The numbers in one line."""
    events = sum(len(run.seqs) for run in seen.followed.values())
    counts = ", ".join(f"{name} {count}" for name, count in sorted(seen.counts.items()))
    wrong = len({*violations, *seen.wrong})
    return (
        f"{wrong} violations; {len(seen.acknowledged)} turns acknowledged, {len(seen.keyed)} keys, "
        f"{sum(seen.calls.values())} provider calls, {len(seen.followed)} followers with "
        f"{events} events ({counts})"
    )


async def measure(arguments: argparse.Namespace, home: Path) -> int:
    """Run the kills; returns the number of violations."""
    seen = Observations()
    chance = random.Random(arguments.seed)  # noqa: S311 - moments, no secrets
    async with provider_of(seen) as provider:
        chaos = Chaos(home, provider.base_url, arguments.opensoul, seen, chance)
        await chaos.run(arguments.kills, arguments.check_every)
    violations = list(dict.fromkeys([*chaos.violations, *seen.wrong]))
    say(f"After {arguments.kills} kills (seed {arguments.seed}): {summary(seen, chaos.violations)}")
    if violations:
        say(*violations[:_PRINTED])
    return len(violations)


def main() -> None:
    options = argparse.ArgumentParser(description="Kill the Gateway under load; lose nothing.")
    options.add_argument("--kills", type=int, default=300)
    options.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    options.add_argument("--check-every", type=int, default=5, metavar="KILLS")
    options.add_argument("--opensoul", type=Path, default=OPENSOUL, help="the command to start")
    options.add_argument("--keep", type=Path, help="a folder for the state, which stays there")
    arguments = options.parse_args()
    say(f"Seed {arguments.seed}")
    folder = (
        nullcontext(str(arguments.keep))
        if arguments.keep
        else tempfile.TemporaryDirectory("-chaos")
    )
    with folder as home:
        sys.exit(1 if asyncio.run(measure(arguments, Path(home))) else 0)


if __name__ == "__main__":
    main()
