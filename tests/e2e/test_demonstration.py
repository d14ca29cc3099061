"""What a newcomer gets: the demonstration's configuration, with a real model on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from opensoul.adapters.providers.local.files import KNOWN_MODELS
from tests.e2e.process import GatewayProcess
from tests.e2e.test_clients import node_packages

ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "clients"
FETCHED = ROOT / ".opensoul" / "models"
LIMIT = 100.0


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demonstration(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """One for all tests: loading the model takes the longest. The last test kills it."""
    if not KNOWN_MODELS[0].path_in(FETCHED).is_file():
        pytest.skip(
            "the model file is not there: OPENSOUL_STATE_DIR=.opensoul opensoul models fetch"
        )
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    demo = (ROOT / "config" / "demo.json5").read_text()
    home = tmp_path_factory.mktemp("demonstration")
    gateway = GatewayProcess(home, demo, ("--print-example",))
    gateway.state.mkdir(mode=0o700)
    (gateway.state / "models").symlink_to(FETCHED)
    async with gateway:
        yield gateway


async def run(gateway: GatewayProcess, *command: str, **extra: str) -> str:
    told = {"GATEWAY_URL": gateway.url, "GATEWAY_TOKEN": gateway.token, **extra}
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        env=gateway.env | told,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_the_printed_command_gets_a_streamed_answer_from_the_model(
    demonstration: GatewayProcess,
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    printed = "".join(demonstration.out)
    assert "pirate" in printed
    command = printed[printed.index("curl ") :].splitlines()[0]
    assert demonstration.token in command

    answered = await run(demonstration, "bash", "-c", command)

    lines = [line[6:] for line in answered.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    words = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert sum(map(bool, words)) > 3, "it was streamed"
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")


async def test_the_official_python_client_talks_with_the_model(
    demonstration: GatewayProcess,
) -> None:
    seen = json.loads(await run(demonstration, sys.executable, str(CLIENTS / "conversation.py")))

    assert seen["models"] == [
        *("opensoul", "opensoul/default"),
        *("opensoul/main", "opensoul/pirate", "opensoul/echo", "opensoul/clerk"),
    ]
    assert seen["whole"].strip()
    assert seen["streamed"].strip()
    assert seen["tokens"] > 0
    assert seen["echo"] == "[scripted] You said: hello"


async def test_the_official_javascript_client_talks_with_the_model(
    demonstration: GatewayProcess,
) -> None:
    packages = await asyncio.to_thread(node_packages)
    program = str(CLIENTS / "conversation.mjs")

    seen = json.loads(await run(demonstration, "node", program, NODE_PACKAGES=str(packages)))

    assert seen["whole"].strip()
    assert seen["streamed"].strip()


async def test_kill_9_leaves_no_model_process_behind(demonstration: GatewayProcess) -> None:
    await run(demonstration, sys.executable, str(CLIENTS / "conversation.py"))
    if sys.platform != "linux":
        pytest.skip("processes are looked up in /proc")
    children = await asyncio.to_thread(children_of, demonstration.pid)
    assert children

    await asyncio.to_thread(demonstration.kill)

    async with asyncio.timeout(10):
        while any(map(lives, children)):  # noqa: ASYNC110 - another process's end is no event here
            await asyncio.sleep(0.01)


def children_of(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # It ended in the meantime.
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
