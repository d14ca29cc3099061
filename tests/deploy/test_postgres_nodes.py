"""What the files of deploy/ start, as processes with one database.

Paths of a container are folders of the test, and the processes listen on loopback alone; the
commands, the variables, the configuration, the probes and the time to stop are those of the files.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.process import GatewayProcess, free_port

from .deployments import (
    CONFIG_FOLDER,
    STATE_FOLDER,
    Node,
    compose,
    compose_node,
    kubernetes_node,
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


def here(node: Node, folder: Path, database: str) -> Node:
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
        "OPENSOUL_GATEWAY_PORT": str(free_port()),
    }
    for path, text in node.files.items():
        file = Path(local(path))
        file.parent.mkdir(parents=True)
        file.write_text(text, "utf-8")
    for path in folders.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    command = ["loopback" if word == "lan" else word for word in node.command]
    return replace(node, command=tuple(command), environment=environment)


def process_of(node: Node, folder: Path) -> GatewayProcess:
    assert node.command[:3] == ("opensoul", "gateway", "run")
    return GatewayProcess(
        folder,
        "",
        arguments=node.command[3:],
        environment=node.environment,
        port=int(node.environment["OPENSOUL_GATEWAY_PORT"]),
    )


async def until_ready(url: str) -> None:
    """As a probe does: nothing else says that a process serves."""
    async with aiohttp.ClientSession() as client, asyncio.timeout(PATIENCE):
        while True:
            try:
                async with client.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


@asynccontextmanager
async def started(
    nodes: Sequence[Node], folder: Path, database: str
) -> AsyncIterator[list[tuple[Node, GatewayProcess]]]:
    running = []
    try:
        for number, node in enumerate(nodes):
            home = folder / str(number)
            home.mkdir()
            local = here(node, home, database)
            process = process_of(local, home)
            process.launch()
            running.append((local, process))
        await asyncio.gather(
            *(until_ready(process.url + node.ready_path) for node, process in running)
        )
        yield running
    finally:
        for _, process in running:
            if process.runs:
                process.kill()


async def answer_of(process: GatewayProcess, text: str) -> str:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    body = {"model": "opensoul", "messages": [{"role": "user", "content": text}], "user": "alice"}
    async with aiohttp.ClientSession(headers=headers) as client:
        url = f"{process.url}/v1/chat/completions"
        async with client.post(url, json=body) as answer:
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
