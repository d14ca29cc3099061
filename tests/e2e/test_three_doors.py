"""One run at three doors: begun at one, followed at another, stopped at the third."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.control.client import connected
from tests.e2e.process import OPENSOUL, GatewayProcess
from tests.fakes.behaviours import answer, hang_after
from tests.fakes.provider import FakeProvider

PATIENCE = 30.0
TOKEN = "a secret of the tests"
QUESTION = json.dumps(
    {"model": "opensoul", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
)


def config(provider_url: str) -> str:
    return json.dumps(
        {
            "gateway": {
                "auth": {"token": TOKEN},
                "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
            },
            "agents": {"defaults": {"model": {"primary": "fake/m"}}},
            "models": {"providers": {"fake": {"baseUrl": provider_url, "models": [{"id": "m"}]}}},
        }
    )


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(hang_after("Hel")) as provider:
        yield provider


@pytest_asyncio.fixture
async def gateway(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[GatewayProcess]:
    async with GatewayProcess(tmp_path, config(provider.base_url)) as gateway:
        yield gateway


@asynccontextmanager
async def program(
    gateway: GatewayProcess, *command: str | Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program beside the Gateway, which does not outlive the context."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env=gateway.env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def result(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """Its exit code and what it printed."""
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def status(gateway: GatewayProcess) -> list[str]:
    """How the Gateway's runs stand, newest first."""
    async with aiohttp.ClientSession(gateway.url) as client, connected(client, TOKEN) as peer:
        return [run["status"] for run in (await peer.call("runs.list"))["runs"]]


async def test_a_run_begun_with_curl_is_followed_by_websocket_and_stopped_by_command(
    gateway: GatewayProcess, provider: FakeProvider
) -> None:
    url = f"{gateway.url}/v1/chat/completions"
    secret = f"Authorization: Bearer {TOKEN}"
    json_type = "Content-Type: application/json"
    curl = ("curl", "-sN", "-H", secret, "-H", json_type, "-d", QUESTION, url)
    async with (
        program(gateway, *curl) as asking,
        aiohttp.ClientSession(gateway.url) as client,
        connected(client, TOKEN) as peer,
    ):
        assert asking.stdout is not None
        begun = await asyncio.wait_for(asking.stdout.readuntil(b"Hel"), PATIENCE)
        [run] = (await peer.call("runs.list", {"status": "running"}))["runs"]
        await peer.call("runs.follow", {"runId": run["runId"], "afterSeq": 0})
        told = [(await peer.event("agent", runId=run["runId"]))["payload"] for _ in range(2)]

        async with program(gateway, OPENSOUL, "runs", "abort", run["runId"]) as stopping:
            stopped = await result(stopping)
        await asyncio.wait_for(provider.requests[0].disconnected.wait(), 1.0)
        last = (await peer.event("agent", runId=run["runId"]))["payload"]
        code, rest, _ = await result(asking)

    assert stopped == (0, "Aborted.\n", "")
    assert [payload["seq"] for payload in [*told, last]] == [1, 2, 3]
    assert told[1]["data"] == {"delta": "Hel"}
    assert (last["data"]["phase"], last["data"]["aborted"]) == ("end", True)
    assert code == 0
    [error] = [line for line in rest.splitlines() if '"error"' in line]
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "run_aborted"
    assert "[DONE]" not in begun.decode() + rest


@pytest.mark.e2e
async def test_ctrl_c_stops_the_run_that_a_command_began(
    gateway: GatewayProcess, provider: FakeProvider
) -> None:
    async with program(gateway, OPENSOUL, "agent", "--message", "hello") as asking:
        request = await asyncio.wait_for(provider.arrival(), PATIENCE)
        await request.started.wait()
        pressed = time.monotonic()
        asking.send_signal(signal.SIGINT)
        await asyncio.wait_for(request.disconnected.wait(), 1.0)
        assert time.monotonic() - pressed < 1.0
        code, out, err = await result(asking)

    assert (code, out) == (130, "")
    assert "aborted" in err
    assert await status(gateway) == ["aborted"]


@pytest.mark.e2e
async def test_a_command_whose_gateway_dies_tells_that_the_run_may_be_lost(
    gateway: GatewayProcess, provider: FakeProvider
) -> None:
    async with program(gateway, OPENSOUL, "agent", "--message", "hello") as asking:
        await asyncio.wait_for(provider.arrival(), PATIENCE)
        await asyncio.to_thread(gateway.kill)
        assert asking.stderr is not None
        told = await asyncio.wait_for(asking.stderr.readline(), PATIENCE)
        asking.send_signal(signal.SIGINT)
        code, out, err = await result(asking)

    assert b"connection is lost" in told
    assert (code, out) == (130, "")
    assert "may continue" in err
    assert len(provider.requests) == 1


@pytest.mark.e2e
async def test_a_command_outlives_the_death_of_its_gateway_and_gets_the_answer(
    tmp_path: Path, provider: FakeProvider
) -> None:
    gateway = GatewayProcess(tmp_path, config(provider.base_url))
    async with gateway, program(gateway, OPENSOUL, "agent", "--message", "hello") as asking:
        await asyncio.wait_for(provider.arrival(), PATIENCE)
        await asyncio.to_thread(gateway.kill)
        provider.default = answer("Hel", "lo!")
        async with gateway:
            code, out, err = await result(asking)
            assert await status(gateway) == ["finished"]

    assert (code, out) == (0, "Hello!\n")
    assert "connection is lost" in err
    assert len(provider.requests) == 2


@pytest.mark.e2e
async def test_a_command_gets_the_whole_answer_of_a_gateway_that_is_told_to_stop(
    tmp_path: Path, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    gateway = GatewayProcess(tmp_path, config(provider.base_url))
    question = (OPENSOUL, "--json", "agent", "--message", "hello")
    async with gateway, program(gateway, *question) as asking:
        await asyncio.wait_for(provider.arrival(), PATIENCE)
        gateway.signal()
        gate.set()
        code, out, err = await result(asking)
        stopped = await asyncio.to_thread(gateway.wait)

    assert (code, err) == (0, "")
    told = json.loads(out)["result"]
    assert told["payloads"] == [{"text": "Hello!"}]
    assert told["meta"]["agentMeta"]["model"] == "m"  # So this is the Gateway's last answer.
    assert stopped == 0
    assert len(provider.requests) == 1
