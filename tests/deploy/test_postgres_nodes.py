"""What the files of deploy/ start, as processes with one database.

Paths of a container are folders of the test, and the processes listen on loopback alone; the
commands, the variables, the configuration, the probes and the time to stop are those of the files.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.process import OPENSOUL, GatewayProcess, free_port
from tests.persistence.pooler import pooled, server_of
from tests.persistence.postgres_server import private_cluster, server_programs

from .deployments import (
    CONFIG_FOLDER,
    STATE_FOLDER,
    Node,
    compose,
    compose_node,
    kubernetes_node,
    manifest,
    systemd_node,
)

TOKEN = "t0ken-of-the-test"
VARIABLES = {"POSTGRES_PASSWORD": "made up", "OPENSOUL_GATEWAY_TOKEN": TOKEN}
PATIENCE = 60.0


def deployment(name: str) -> list[Node]:
    match name:
        case "kubernetes":
            roles = ("gateway", "gateway", "worker")
            return [kubernetes_node("Deployment", f"opensoul-{role}") for role in roles]
        case "compose":
            return [compose_node(VARIABLES)] * 3
        case _:
            return [systemd_node("1"), systemd_node("2")]


@dataclass(frozen=True)
class Place:
    """Where a node of a test listens: a container has an address of its own."""

    address: str = "127.0.0.1"
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"


def here(node: Node, folder: Path, database: str, place: Place) -> Node:
    """The node with folders of its own in the place of the container's, and the test's database."""
    folders = {CONFIG_FOLDER: f"{folder}/config", STATE_FOLDER: f"{folder}/lib"}

    def local(text: str) -> str:
        for path, own in folders.items():
            text = text.replace(path, own)
        return text

    environment = {name: local(value) for name, value in node.environment.items()}
    environment |= {
        "OPENSOUL_DATABASE_URL": database,
        "OPENSOUL_GATEWAY_TOKEN": TOKEN,
        "OPENSOUL_GATEWAY_PORT": str(place.port),
    }
    bind = f'gateway: {{ customBindHost: "{place.address}",'
    for path, text in node.files.items():
        file = Path(local(path))
        file.parent.mkdir(parents=True)
        file.write_text(text.replace("gateway: {", bind, 1), "utf-8")
    for path in folders.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    command = ["custom" if word == "lan" else word for word in node.command]
    return replace(node, command=tuple(command), environment=environment)


def output_of(node: Node, *arguments: str) -> str:
    """What a command of the node prints that ends by itself."""
    done = subprocess.run(
        [OPENSOUL, *node.command[1:], *arguments],
        env={"PATH": os.environ["PATH"], **node.environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def process_of(node: Node, folder: Path, program: Path = OPENSOUL) -> GatewayProcess:
    assert node.command[:3] == ("opensoul", "gateway", "run")
    return GatewayProcess(
        folder,
        "",
        arguments=node.command[3:],
        environment=node.environment,
        port=int(node.environment["OPENSOUL_GATEWAY_PORT"]),
        program=program,
    )


async def until_ready(url: str) -> None:
    await until_answered(url, 200)


async def until_answered(url: str, status: int) -> None:
    """As a probe does: nothing else says that a process serves."""
    async with aiohttp.ClientSession() as client, asyncio.timeout(PATIENCE):
        while True:
            try:
                async with client.get(url) as answer:
                    if answer.status == status:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


@asynccontextmanager
async def started(
    nodes: Sequence[Node], folder: Path, database: str, places: Sequence[Place] = ()
) -> AsyncIterator[list[tuple[Node, GatewayProcess]]]:
    running = []
    probes = []
    try:
        for number, node in enumerate(nodes):
            home = folder / str(number)
            home.mkdir()
            place = places[number] if places else Place()
            local = here(node, home, database, place)
            process = process_of(local, home)
            process.launch()
            running.append((local, process))
            probes.append(until_ready(place.url + node.ready_path))
        await asyncio.gather(*probes)
        yield running
    finally:
        for _, process in running:
            if process.runs:
                process.kill()


@asynccontextmanager
async def request(process: GatewayProcess, text: str) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    body = {"model": "opensoul", "messages": [{"role": "user", "content": text}], "user": "alice"}
    url = f"{process.url}/v1/chat/completions"
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(url, json=body) as answer,
    ):
        yield answer


async def answer_of(process: GatewayProcess, text: str) -> str:
    async with request(process, text) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["choices"][0]["message"]["content"])


@pytest.mark.parametrize("name", ["kubernetes", "compose", "systemd"])
async def test_the_nodes_of_a_deployment_answer_and_stop_in_time(
    name: str, postgres_url: str, tmp_path: Path
) -> None:
    async with started(deployment(name), tmp_path, postgres_url) as running:
        for number, (node, process) in enumerate(running):
            if node.environment.get("OPENSOUL_NODE_ROLE") != "worker":
                assert f"question {number}" in await answer_of(process, f"question {number}")
        for _, process in running:
            process.signal()
        for node, process in running:
            assert await asyncio.to_thread(process.wait, node.grace) == 0


async def test_gateways_serve_the_metric_that_workers_are_scaled_by(
    postgres_url: str, tmp_path: Path
) -> None:
    (metric,) = manifest("HorizontalPodAutoscaler", "opensoul-worker")["spec"]["metrics"]
    name = metric["external"]["metric"]["name"]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    node = kubernetes_node("Deployment", "opensoul-gateway")
    async with (
        started([node], tmp_path, postgres_url) as ((_, process),),
        aiohttp.ClientSession(headers=headers) as client,
        client.get(f"{process.url}/metrics") as answer,
    ):
        assert f"\n{name} 0\n" in await answer.text()


def test_the_job_migrates_the_schema(postgres_url: str, tmp_path: Path) -> None:
    job = here(kubernetes_node("Job", "opensoul-migrate"), tmp_path, postgres_url, Place())
    output_of(job)
    status = json.loads(output_of(replace(job, command=("opensoul", "db", "status")), "--json"))
    assert status["pending"] == []
    assert status["version"] > 0


async def test_nodes_reach_the_database_through_a_pooler(postgres_url: str, tmp_path: Path) -> None:
    """An answer that another process executes needs the notifications of `listenUrl`."""
    with pooled(postgres_url) as address:
        listen_url = json.dumps(server_of(address))
        nodes = [
            replace(
                node,
                files={
                    path: f"{{ store: {{ listenUrl: {listen_url} }}, {text[text.index('{') + 1 :]}"
                    for path, text in node.files.items()
                },
            )
            for node in deployment("kubernetes")
        ]
        async with started(nodes, tmp_path, address) as running:
            for number, (_, process) in enumerate(running[:2]):
                assert f"question {number}" in await answer_of(process, f"question {number}")
            for _, process in running:
                assert await asyncio.to_thread(process.stop) == 0


@pytest.mark.parametrize("role", ["gateway", "worker"])
async def test_a_database_that_is_away_makes_nodes_unready_and_restarts_none(
    role: str, tmp_path: Path
) -> None:
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL is installed, and a server of others is not stopped")
    (container,) = manifest("Deployment", f"opensoul-{role}")["spec"]["template"]["spec"][
        "containers"
    ]
    alive = container["livenessProbe"]["httpGet"]["path"]
    with private_cluster(programs, durable=True) as cluster:
        node = kubernetes_node("Deployment", f"opensoul-{role}")
        async with started([node], tmp_path, cluster.url) as ((_, process),):
            await asyncio.to_thread(cluster.stop)
            await until_answered(process.url + node.ready_path, 503)
            await until_answered(process.url + alive, 200)
            if role == "gateway":
                async with request(process, "hi") as refused:
                    assert (refused.status, "Retry-After" in refused.headers) == (503, True)
            await asyncio.to_thread(cluster.start)
            await until_ready(process.url + node.ready_path)
            assert await asyncio.to_thread(process.stop) == 0


async def test_the_health_checks_of_docker_follow_readiness(
    postgres_url: str, tmp_path: Path
) -> None:
    kind, program, *arguments = compose(VARIABLES)["services"]["opensoul"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    async with started(deployment("compose")[:1], tmp_path, postgres_url) as ((_, process),):
        command = [
            sys.executable,
            *(each.replace("18789", str(process.port)) for each in arguments),
        ]

        async def healthy() -> bool:
            run = asyncio.to_thread(subprocess.run, command, capture_output=True)
            return (await run).returncode == 0

        assert await healthy()
        await asyncio.to_thread(process.stop)
        assert not await healthy()
