"""A Gateway serves whatever became of its standard streams, and drains as always."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.process import OPENSOUL, GatewayProcess
from tests.e2e.test_serving import PATIENCE, ask, config, token_of
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell"),
]


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


@pytest.mark.parametrize(
    "redirection",
    [
        "<&- >&- 2>&-",
        pytest.param(
            ">/dev/full 2>/dev/full",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full"),
        ),
        "2</dev/null",
    ],
)
async def test_it_serves_and_drains(
    tmp_path: Path, provider: FakeProvider, redirection: str
) -> None:
    gateway = GatewayProcess(tmp_path, config(provider.base_url))
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {redirection}', "sh", OPENSOUL, "gateway", "run"),
        env=gateway.env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until_connected(gateway.port)
        token = await token_of(gateway)
        for _ in range(3):
            async with ask(gateway.url, token) as response:
                assert response.status == 200
        process.terminate()
        async with asyncio.timeout(PATIENCE):
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert code == 0


async def until_connected(port: int) -> None:
    """Return when connections are taken; what it prints cannot be waited for."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            return
