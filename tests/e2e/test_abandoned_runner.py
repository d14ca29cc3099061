"""A third party's runner that does not let itself be stopped, in a process that has to end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.process import GatewayProcess

pytestmark = pytest.mark.e2e

SECRET = "a secret of the tests"
RUNNER = """
import asyncio

from opensoul.domain.models.calls import TextDelta


class DeafRunner:
    def history_budget(self, context):
        return 0

    async def run(self, context):
        yield [TextDelta("Hel")]
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
"""


def install(folder: Path) -> None:
    """A package with the runner, as an installer would put it there."""
    facts = folder / "deaf-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: deaf\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[opensoul.runners]\ndeaf = deaf:DeafRunner\n")
    (folder / "deaf.py").write_text(RUNNER)


async def test_sigterm_ends_a_process_whose_runner_does_not_stop(tmp_path: Path) -> None:
    install(tmp_path / "packages")
    config = {
        "gateway": {
            "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
            "auth": {"token": SECRET},
            "shutdown": {"graceSeconds": 0},
        },
        "agents": {"list": [{"id": "main", "runner": "deaf"}]},
    }
    question = {"model": "opensoul", "messages": [{"role": "user", "content": "hello"}]}
    async with (
        GatewayProcess(
            tmp_path,
            json.dumps(config),
            environment={"PYTHONPATH": str(tmp_path / "packages")},
        ) as gateway,
        aiohttp.request(
            "POST",
            f"{gateway.url}/v1/chat/completions",
            json=question | {"stream": True},
            headers={"Authorization": f"Bearer {SECRET}"},
        ) as response,
    ):
        await response.content.readuntil(b"Hel")
        gateway.signal()
        rest = await response.content.read()
        code = await asyncio.to_thread(gateway.wait)

    assert b'"code":"run_aborted"' in rest
    assert b"its runner did not stop" in rest.lower()
    assert code == 0
    log = "".join(gateway.err)
    assert "a runner did not stop and was abandoned" in log
    assert "tasks that do not end are left behind" in log
    assert "Traceback" not in log
