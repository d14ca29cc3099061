"""A Gateway of several processes over a private PostgreSQL, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from opensoul.client import Client
from tests.app.serving import SECRET
from tests.e2e.process import OPENSOUL, GatewayProcess
from tests.persistence.postgres_server import Cluster as Postgres
from tests.persistence.postgres_server import private_cluster, server_programs

LEASE = 3.0
AGENTS = Path(__file__).parent / "agents"
SCOPES = ("operator.admin", "operator.read", "operator.write", "operator.approvals")
ENDPOINTS = {"chatCompletions": {"enabled": True}, "responses": {"enabled": True}}


def agent(target: str = "scripted:answer", name: str = "main") -> dict[str, Any]:
    runner = {"use": "python", "target": target, "path": str(AGENTS), "isolation": "inline"}
    return {"id": name, "runner": runner}


def node_config(role: str, name: str, sections: Mapping[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {
        "node": {"role": role, "name": name, "leaseSeconds": LEASE},
        "gateway": {
            "auth": {"token": SECRET},
            "http": {"endpoints": ENDPOINTS},
            "shutdown": {"lingerSeconds": 0},
        },
        "agents": {"list": [agent()]},
        "logging": {"level": "warn"},
    }
    for section, value in sections.items():
        own[section] = {**own.get(section, {}), **value}
    return own


@dataclass
class Node:
    """One process of the Gateway, and the processes before it that were killed."""

    name: str
    role: str
    process: GatewayProcess
    work: Work
    serves: bool = False
    faults: list[str] = field(default_factory=list)
    """Errors that its processes have logged and did not expect."""

    @property
    def url(self) -> str:
        return self.process.url

    @property
    def websocket(self) -> str:
        return self.process.url.replace("http", "ws", 1)

    @property
    def pid(self) -> int:
        return self.process.pid

    async def start(self) -> None:
        await asyncio.to_thread(self.process.start)
        self.serves = True

    async def kill(self) -> None:
        """End it with `kill -9`. From now on it works no more."""
        self.serves = False
        try:
            await asyncio.to_thread(self.process.kill)
        except AssertionError as error:  # The test goes on, and fails in the end.
            self.faults.append(f"{self.name}: {error}")
        self.process.err.clear()
        self.work.note("killed", self.pid)

    async def stop(self) -> int:
        """Drain it; its exit code."""
        return await asyncio.to_thread(self.process.stop)

    def pause(self) -> None:
        self.process.signal(signal.SIGSTOP)
        self.work.note("paused", self.pid)

    def resume(self) -> None:
        self.work.note("resumed", self.pid)
        self.process.signal(signal.SIGCONT)

    @property
    def alive(self) -> bool:
        return self.process.alive

    def client(self, **options: Any) -> Client:
        """A client of the control protocol that stays at this node."""
        return Client.connect(self.websocket, token=SECRET, scopes=SCOPES, **options)


@dataclass(frozen=True, slots=True)
class Line:
    """What an agent, or the test, has noted."""

    kind: str
    pid: int
    words: Sequence[str]

    @property
    def run(self) -> str:
        return self.words[0]

    @property
    def session(self) -> str:
        return self.words[1]


@dataclass(frozen=True)
class Work:
    """The file in which the agents of all processes note what they do."""

    path: Path

    def note(self, kind: str, pid: int) -> None:
        with self.path.open("a") as file:
            file.write(f"{kind} {pid}\n")

    def lines(self) -> list[Line]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        parts = [line.split() for line in lines]
        return [Line(kind, int(pid), words) for kind, pid, *words in parts]

    def of(self, kind: str, run_id: str) -> list[Line]:
        return [one for one in self.lines() if one.kind == kind and one.run == run_id]

    async def until(self, kind: str, run_id: str, times: int = 1) -> list[Line]:
        """The lines of the run, once there are so many of the kind."""
        async with asyncio.timeout(60):
            while True:
                if len(found := self.of(kind, run_id)) >= times:
                    return found
                await asyncio.sleep(0.02)  # Files do not say that they change.


@dataclass
class Machines:
    """The processes of one Gateway."""

    nodes: dict[str, Node]
    postgres: Postgres
    work: Work
    home: Path
    sections: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    @property
    def lease(self) -> float:
        return float(self.sections.get("node", {}).get("leaseSeconds", LEASE))

    @property
    def gateways(self) -> list[Node]:
        return [one for one in self.nodes.values() if one.role != "worker"]

    @property
    def workers(self) -> list[Node]:
        return [one for one in self.nodes.values() if one.role != "gateway"]

    def busy(self, run_id: str) -> Node:
        """The worker that began with the run last."""
        return self.of_pid(self.work.of("begin", run_id)[-1].pid)

    def of_pid(self, pid: int) -> Node:
        return next(one for one in self.nodes.values() if one.pid == pid)

    async def add(self, name: str, role: str, program: Path = OPENSOUL) -> Node:
        """Start one more."""
        home = self.home / name
        home.mkdir()
        process = GatewayProcess(
            home,
            json.dumps(node_config(role, name, self.sections)),
            environment={
                "OPENSOUL_DATABASE_URL": self.postgres.url,
                "WORK": str(self.work.path),
                **self.environment,
            },
            program=program,
        )
        self.nodes[name] = node = Node(name, role, process, self.work)
        await node.start()
        return node

    async def stop(self) -> None:
        async def end(node: Node) -> None:
            if node.alive:
                node.resume()
                await node.stop()

        await asyncio.gather(*map(end, self.nodes.values()))


GATEWAYS_AND_WORKERS = {
    "a": "gateway",
    "b": "gateway",
    "w1": "worker",
    "w2": "worker",
    "w3": "worker",
}


@asynccontextmanager
async def machines(
    home: Path,
    roles: Mapping[str, str] = GATEWAYS_AND_WORKERS,
    *,
    environment: Mapping[str, str] | None = None,
    postgres_options: Sequence[str] | None = None,
    **sections: Any,
) -> AsyncIterator[Machines]:
    """Started processes of these roles with their own database; `sections` of the configuration
    are added to each."""
    programs = server_programs()
    if programs is None:
        missing = "no PostgreSQL: install the package postgresql"
        if os.environ.get("OPENSOUL_REQUIRE_POSTGRES") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(
            private_cluster(programs, durable=True, options=postgres_options)
        )
        made = Machines({}, postgres, Work(home / "work"), home, sections, environment or {})
        stack.push_async_callback(made.stop)
        await asyncio.gather(*(made.add(name, role) for name, role in roles.items()))
        yield made
        faults = [fault for node in made.nodes.values() for fault in node.faults]
        assert not faults, "\n".join(faults)


def official(node: Node) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key=SECRET, max_retries=0)


def question(name: str, tokens: int = 5, pause: float = 0.01) -> str:
    return f"{name} {tokens} {pause}"


def text(name: str, tokens: int = 5) -> str:
    return "".join(f"{name}.{number} " for number in range(tokens))
