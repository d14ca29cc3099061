"""Signals to the Gateway as a process: runs finish first, and the state directory is free again."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from opensoul.adapters.system.files.state_lock import StateLock
from tests.e2e.process import OPENSOUL, GatewayProcess
from tests.e2e.test_serving import PATIENCE, ask, config, token_of, until_refused
from tests.fakes.behaviours import answer, hang_after
from tests.fakes.locks import held
from tests.fakes.provider import FakeProvider

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="has other signals"),
]

IN_ITS_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


async def test_sighup_drains_and_other_signals_are_logged(
    tmp_path: Path, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    async with GatewayProcess(tmp_path, config(provider.base_url)) as gateway:
        async with ask(gateway.url, await token_of(gateway), stream=True) as response:
            await response.content.readuntil(b"Hel")
            gateway.signal(signal.SIGUSR1)
            await asyncio.to_thread(gateway.until_logged, "signal=SIGUSR1")
            gateway.signal(signal.SIGHUP)
            await until_refused(gateway.port)
            gateway.signal(signal.SIGHUP)
            gateway.signal(signal.SIGUSR2)
            await asyncio.to_thread(gateway.until_logged, "signal=SIGUSR2")
            gate.set()
            rest = await response.content.read()
        code = await asyncio.to_thread(gateway.wait)

    assert rest.endswith(b"data: [DONE]\n\n")
    assert code == 0
    with held(StateLock(gateway.state)):
        pass


async def test_a_closed_terminal_lets_a_run_finish(tmp_path: Path, provider: FakeProvider) -> None:
    """Its log has nowhere to go from then on, and its standard streams fail."""
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    gateway = GatewayProcess(tmp_path, config(provider.base_url))
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IN_ITS_TERMINAL, OPENSOUL, "gateway", "run"),
        env=gateway.env,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    try:
        await asyncio.to_thread(until_printed, master, b"curl")
        async with ask(gateway.url, await token_of(gateway), stream=True) as response:
            await response.content.readuntil(b"Hel")
            os.close(master)
            await until_refused(gateway.port)
            gate.set()
            rest = await response.content.read()
        async with asyncio.timeout(PATIENCE):
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert rest.endswith(b"data: [DONE]\n\n")
    assert code == 0


async def test_a_second_signal_frees_the_state_directory(
    tmp_path: Path, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    patient = config(provider.base_url, shutdown={"graceSeconds": 600})
    async with (
        GatewayProcess(tmp_path, patient) as gateway,
        ask(gateway.url, await token_of(gateway), stream=True) as response,
    ):
        await response.content.readuntil(b"Hel")
        gateway.signal(signal.SIGQUIT)
        await until_refused(gateway.port)
        gateway.signal(signal.SIGQUIT)
        code = await asyncio.to_thread(gateway.wait)

    assert code == 128 + signal.SIGQUIT
    with held(StateLock(gateway.state)):
        pass


async def test_ctrl_c_does_not_wait_for_idle_clients_of_a_single_process(
    tmp_path: Path, provider: FakeProvider
) -> None:
    patient = config(provider.base_url, shutdown={"lingerSeconds": 600})
    async with (
        GatewayProcess(tmp_path, patient) as gateway,
        aiohttp.ClientSession(gateway.url) as client,
    ):
        async with client.get("/healthz") as response:
            await response.read()  # Or else the connection is not kept.
        assert (response.status, response.headers.get("Connection")) == (200, None)
        gateway.signal(signal.SIGINT)
        assert await asyncio.to_thread(gateway.wait) == 0


def until_printed(terminal: int, mark: bytes) -> None:
    printed = b""
    while mark not in printed:
        printed += os.read(terminal, 65_536)
