"""Two versions of the Gateway over one database: a rolling update, and the way back.

The older one is taken from the history of git, or is the one of OPENSOUL_OLDER (a commit, a tag, or
the path of an installed program `opensoul`).
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import psycopg
import pytest

from opensoul.client import Finished, run_text
from tests.app.serving import config
from tests.cluster.chaos import Chaos
from tests.cluster.nodes import Machines, Node, machines, question, text
from tests.cluster.rolling import AGENTS, Load, clerk
from tests.cluster.versions import Installed, older_version, this_version
from tests.e2e.process import UNEXPECTED
from tests.e2e.test_killed_approvals import install
from tests.fakes.provider import FakeProvider

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

ROLES = {"a": "gateway", "b": "gateway", "w1": "worker", "w2": "worker"}
OLD, NEW = "old", "new"
FLOOR = 50
"""The migration with the table schema_floor."""
PATIENCE = 120.0
"""A hang guard, in seconds, for a command."""
SECONDS = float(os.environ.get("OPENSOUL_CHAOS_SECONDS", "30"))
MOST_LAPS = 20
"""In which each way between two versions is to be seen."""


@dataclass
class Fleet:
    """The nodes, and which version each process is of."""

    started: Machines
    versions: Mapping[str, Installed]
    processes: dict[int, str] = field(default_factory=dict)

    def version_of(self, node: Node) -> str:
        programs = {self.versions[version].program: version for version in self.versions}
        return programs[node.process.program]

    def has_started(self, node: Node, version: str) -> None:
        self.processes[node.pid] = version
        node.process.unexpected = UNEXPECTED if version == NEW else ()

    async def replace(self, node: Node, version: str) -> None:
        """Drain it, and start that version in its place."""
        assert await node.stop() == 0, "".join(node.process.err)
        self.note_log(node)
        node.process.program = self.versions[version].program
        await node.start()
        self.has_started(node, version)

    def note_log(self, node: Node) -> None:
        """Errors that a process of the older version has logged are shown: nobody can mend them."""
        if self.version_of(node) == OLD and (log := "".join(node.process.err)):
            print(f"{node.name}, {self.versions[OLD].name}:\n{log}")
        node.process.err.clear()

    def opensoul(self, version: str, *arguments: str) -> str:
        """What the command line of that version prints about the database."""
        done = self.run(version, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, version: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A program of that version, with the configuration of a node and a state of its own."""
        node = self.started["a"].process
        command = [str(self.versions[version].program), *arguments]
        env = node.env | {"OPENSOUL_STATE_DIR": str(node.home / "other")}
        return subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
        )


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Installed]:
    old, new = older_version(tmp_path_factory.mktemp("older")), this_version()
    assert old.package != new.package
    return {OLD: old, NEW: new}


@asynccontextmanager
async def fleet(
    home: Path, versions: Mapping[str, Installed], chosen: Mapping[str, str]
) -> AsyncIterator[tuple[Fleet, Load]]:
    """Nodes of these versions, whose clerk has a tool that needs approval, and their clients. The
    older ones start first."""
    install(home / "packages")
    letters = home / "letters"
    environment = {"PYTHONPATH": str(home / "packages"), "SENT": str(letters)}
    seed = secrets.randbelow(1_000_000)
    chance = random.Random(seed)  # noqa: S311 - it chooses gateways
    print(f"seed {seed}; {versions[OLD].name} beside {versions[NEW].name}")
    async with FakeProvider(clerk) as provider:
        whole = config(provider.base_url, tools={"allow": ["send"]}, agents=AGENTS)
        sections = {name: whole[name] for name in ("models", "tools", "agents")}
        sections["gateway"] = {"shutdown": {}}  # Without keys that the older version does not know.
        async with machines(home, {}, environment=environment, **sections) as started:
            made = Fleet(started, versions)
            for version in (OLD, NEW):
                names = [name for name in chosen if chosen[name] == version]
                program = versions[version].program
                nodes = [started.add(name, ROLES[name], program) for name in names]
                for node in await asyncio.gather(*nodes):
                    made.has_started(node, version)
            yield made, Load(started, made.version_of, chance, letters)


async def test_nodes_are_replaced_one_by_one_and_back(
    tmp_path: Path, versions: Mapping[str, Installed]
) -> None:
    async with fleet(tmp_path, versions, dict.fromkeys(ROLES, OLD)) as (nodes, load):
        async with load.going_on():
            await load.lap()
            print(nodes.opensoul(NEW, "db", "migrate"))
            await load.lap()
            for name in ("w1", "b"):
                await nodes.replace(nodes.started[name], NEW)
            await _every_way(nodes, load)
            for name in ("a", "w2"):
                await nodes.replace(nodes.started[name], NEW)
            await load.lap()
            for name in ROLES:
                await nodes.replace(nodes.started[name], OLD)
            await load.lap()
        wrong = await load.violations()
        print(f"{dict(load.seen)}; ways {load.ways(nodes.processes)}; {len(wrong)} violations")
        print(*wrong[:20], sep="\n")
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.parametrize("version", [OLD, NEW])
async def test_a_version_that_the_schema_has_left_behind_does_not_start(
    tmp_path: Path, versions: Mapping[str, Installed], version: str
) -> None:
    if FLOOR not in versions[version].migrations:
        pytest.skip(f"{versions[version].name} does not know of schema_floor")
    async with fleet(tmp_path, versions, {"a": NEW}) as (nodes, _):
        a = nodes.started["a"]
        url = nodes.started.postgres.url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO schema_floor VALUES (9000)")
            connection.execute("DELETE FROM schema_migrations WHERE number = %s", [FLOOR])
            done = await asyncio.to_thread(nodes.run, version, "gateway", "run", "--port", "0")
            left = connection.execute("SELECT 1 FROM schema_migrations WHERE number = %s", [FLOOR])
            assert left.fetchone() is None
        assert a.alive
    print(done.stderr)
    assert done.returncode == 1
    assert "it needs one that knows migration 9000" in done.stderr
    assert "Install the version of the other nodes" in done.stderr
    assert "Traceback" not in done.stderr


async def _every_way(nodes: Fleet, load: Load) -> None:
    """Laps, until runs were accepted, executed and followed by each version."""
    for _ in range(MOST_LAPS):
        await load.lap()
        if load.wrong or set(load.ways(nodes.processes)) == set(product((OLD, NEW), repeat=3)):
            return
    raise AssertionError(f"ways of runs: {load.ways(nodes.processes)}")


@pytest.mark.parametrize(("dies", "goes_on"), [(OLD, NEW), (NEW, OLD)])
async def test_a_worker_of_either_version_goes_on_with_the_runs_of_a_killed_one(
    tmp_path: Path, versions: Mapping[str, Installed], dies: str, goes_on: str
) -> None:
    chosen = {"a": OLD, "b": NEW, "w1": dies, "w2": goes_on}
    async with fleet(tmp_path, versions, chosen) as (nodes, _):
        a, b = nodes.started["a"], nodes.started["b"]
        async with a.client() as one, b.client() as other:
            runs, other_ends = {}, []
            for number in range(8):
                client, watcher = ((one, other), (other, one))[number % 2]
                asked = question(f"long-{number}", 60, 0.05)
                run = await client.run_agent(asked, session_key=f"agent:main:long-{number}")
                runs[f"long-{number}"] = run
                other_ends.append(watcher.follow(run.run_id))
            work = nodes.started.work
            for run in runs.values():
                await work.until("token", run.run_id, 3)
            lost = [run for run in runs.values() if nodes.started.busy(run.run_id).name == "w1"]
            await nodes.started["w1"].kill()
            for (name, run), other_end in zip(runs.items(), other_ends, strict=True):
                for end in (run, other_end):
                    events = [event async for event in end.events()]
                    assert [event.seq for event in events] == list(range(1, len(events) + 1))
                    assert isinstance(events[-1], Finished), events[-1]
                    assert run_text(events) == text(name, 60)
                history = await other.history(f"agent:main:{name}")
                assert [turn.text for turn in history] == [question(name, 60, 0.05), text(name, 60)]
        assert lost
        assert len(lost) < len(runs)
        for run in runs.values():
            begun = [nodes.processes[line.pid] for line in work.of("begin", run.run_id)]
            assert begun == ([dies, goes_on] if run in lost else [goes_on])


async def test_no_run_is_lost_or_doubled_whichever_version_is_killed(
    tmp_path: Path, versions: Mapping[str, Installed]
) -> None:
    chosen = {"a": OLD, "b": NEW, "w1": OLD, "w2": NEW}
    async with fleet(tmp_path, versions, chosen) as (nodes, load):
        chaos = Chaos(nodes.started, load.chance, sessions=16)
        wrong = await chaos.kill_processes(SECONDS)
        print(f"{chaos.summary}; {len(wrong)} violations")
    assert not wrong, "\n".join(wrong[:20])
    assert chaos.counts["runs that were taken over"]
