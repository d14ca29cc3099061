"""The Gateway as a process: starting, stopping, sharing a machine, changing its mind."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.e2e.process import OPENSOUL, GatewayProcess
from tests.fakes.behaviours import answer, hang_after
from tests.fakes.provider import FakeProvider

QUESTION = {"model": "opensoul", "messages": [{"role": "user", "content": "hello"}]}
PATIENCE = 20.0


def config(provider_url: str = "http://127.0.0.1:9/v1", **gateway: Any) -> str:
    """JSON5 of a Gateway with one agent; `gateway` adds to the section of that name."""
    endpoints = {"endpoints": {"chatCompletions": {"enabled": True}}}
    models = [{"id": "m"}]
    return json.dumps(
        {
            "gateway": {"http": endpoints, **gateway},
            "agents": {"defaults": {"model": {"primary": "fake/m"}}},
            "models": {"providers": {"fake": {"baseUrl": provider_url, "models": models}}},
        }
    )


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


async def token_of(gateway: GatewayProcess) -> str:
    return await asyncio.to_thread(lambda: gateway.token)


def ask(url: str, token: str, **more: Any) -> Any:
    """A chat completion on a connection of its own, as an async context manager."""
    headers = {"Authorization": f"Bearer {token}"}
    return aiohttp.request(
        "POST", f"{url}/v1/chat/completions", json=QUESTION | more, headers=headers
    )


async def test_sigterm_lets_a_run_finish_and_exits_with_0(
    tmp_path: Path, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    async with GatewayProcess(tmp_path, config(provider.base_url)) as gateway:
        async with ask(gateway.url, await token_of(gateway), stream=True) as response:
            begun = await response.content.readuntil(b"Hel")
            gateway.signal()
            await until_refused(gateway.port)
            gate.set()
            rest = await response.content.read()
        code = await asyncio.to_thread(gateway.wait)

    assert b"Hel" in begun
    assert rest.endswith(b"data: [DONE]\n\n")
    assert code == 0


@pytest.mark.e2e
async def test_a_run_that_outlasts_the_grace_is_told_so(
    tmp_path: Path, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    impatient = config(provider.base_url, shutdown={"graceSeconds": 0})
    async with GatewayProcess(tmp_path, impatient) as gateway:
        async with ask(gateway.url, await token_of(gateway), stream=True) as response:
            await response.content.readuntil(b"Hel")
            gateway.signal()
            rest = await response.content.read()
        code = await asyncio.to_thread(gateway.wait)

    assert b'"code":"run_aborted"' in rest
    assert b"shutting down" in rest
    assert b"[DONE]" not in rest
    assert code == 0
    await asyncio.wait_for(provider.requests[0].disconnected.wait(), PATIENCE)


@pytest.mark.e2e
async def test_a_second_signal_ends_it_at_once(tmp_path: Path, provider: FakeProvider) -> None:
    provider.will(hang_after("Hel"))
    patient = config(provider.base_url, shutdown={"graceSeconds": 600})
    async with (
        GatewayProcess(tmp_path, patient) as gateway,
        ask(gateway.url, await token_of(gateway), stream=True) as response,
    ):
        await response.content.readuntil(b"Hel")
        gateway.signal()
        await until_refused(gateway.port)
        gateway.signal()
        code = await asyncio.to_thread(gateway.wait)

    assert code == 128 + signal.SIGTERM


async def test_a_second_gateway_is_told_who_holds_the_state_directory(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path, config()) as first:
        other = tmp_path / "other"
        other.mkdir()
        same = {"OPENSOUL_STATE_DIR": str(first.state)}
        second = GatewayProcess(other, config(), environment=same)

        with pytest.raises(AssertionError, match=f"process {first.pid}.*{first.url}"):
            await asyncio.to_thread(second.start)


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        gateway = GatewayProcess(tmp_path, config(), port=port)

        with pytest.raises(AssertionError, match=f"Cannot listen on 127.0.0.1 port {port}"):
            gateway.start()

    assert "Traceback" not in "".join(gateway.err)


def test_a_wrong_configuration_is_told_in_full(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, '{ gateway: { prot: 1,\n bind: "everywhere" } }')

    with pytest.raises(AssertionError) as failure:
        gateway.start()

    told = str(failure.value)
    assert "gateway.prot" in told
    assert "gateway.bind" in told
    assert "opensoul.json:2" in told
    assert "Traceback" not in told


@pytest.mark.e2e
async def test_without_a_file_it_starts_with_the_endpoint_off_and_says_so(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, "{}", environment={"OPENSOUL_CONFIG_PATH": ""})
    gateway.config_path.unlink()
    async with gateway, ask(gateway.url, await token_of(gateway)) as response:
        assert response.status == 404
        body = await response.json()

    assert "gateway.http.endpoints.chatCompletions.enabled" in body["error"]["message"]
    assert "chat endpoint" in "".join(gateway.out).lower()
    assert "There is no configuration file" in "".join(gateway.out)


@pytest.mark.e2e
async def test_a_changed_secret_is_in_force_for_the_next_request(
    tmp_path: Path, provider: FakeProvider
) -> None:
    def with_token(token: str) -> str:
        return config(provider.base_url, auth={"token": token})

    async with GatewayProcess(tmp_path, with_token("first secret")) as gateway:
        async with ask(gateway.url, "first secret") as response:
            assert response.status == 200
        gateway.config_path.write_text(with_token("second secret"))
        async with ask(gateway.url, "first secret") as response:
            assert response.status == 401
        async with ask(gateway.url, "second secret") as response:
            assert response.status == 200


@pytest.mark.e2e
async def test_a_rotated_token_replaces_the_old_one_at_once(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with GatewayProcess(tmp_path, config(provider.base_url)) as gateway:
        old = await token_of(gateway)
        await asyncio.to_thread(gateway.opensoul, "token", "rotate")
        new = await token_of(gateway)
        async with ask(gateway.url, old) as response:
            assert response.status == 401
        async with ask(gateway.url, new) as response:
            assert response.status == 200


@pytest.mark.e2e
async def test_a_broken_file_is_reported_and_the_last_good_one_stays(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with GatewayProcess(tmp_path, config(provider.base_url)) as gateway:
        token = await token_of(gateway)
        gateway.config_path.write_text('{ gateway: { bind: "everywhere" } }')
        async with ask(gateway.url, token) as response:
            assert response.status == 200
        await asyncio.to_thread(gateway.until_logged, "gateway.bind")


async def test_no_secret_is_in_the_process_list_nor_in_the_log(
    tmp_path: Path, provider: FakeProvider
) -> None:
    secret, guess = "given-on-the-command-line", "a-wrong-guess"
    gateway = GatewayProcess(tmp_path, config(provider.base_url), ("--token", secret))
    async with gateway:
        assert secret not in gateway.command_line
        async with ask(gateway.url, secret) as response:
            assert response.status == 200
        async with ask(gateway.url, guess) as response:
            assert response.status == 401
            assert guess not in await response.text()

    told = "".join(gateway.out + gateway.err)
    assert secret not in told
    assert guess not in told


@pytest.mark.e2e
async def test_hypercorns_own_command_serves_it_too(tmp_path: Path, provider: FakeProvider) -> None:
    gateway = GatewayProcess(tmp_path, config(provider.base_url))
    command = OPENSOUL.with_name("hypercorn")
    process = await asyncio.create_subprocess_exec(
        command,
        *("--bind", f"127.0.0.1:{gateway.port}", "--worker-class", "uvloop"),
        "opensoul.app.server.factory:create_app()",
        env=gateway.env,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE):
            while b"Running on" not in await process.stderr.readline():
                pass
        async with ask(gateway.url, await token_of(gateway)) as response:
            assert (await response.json())["choices"][0]["message"]["content"] == "Hello!"
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


async def until_refused(port: int) -> None:
    """Return when nothing accepts connections on the port any more."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                continue  # It waited to be accepted when the listener was closed.
            writer.close()
            with suppress(ConnectionResetError):  # The same, a moment later.
                await writer.wait_closed()
            await asyncio.sleep(0)
