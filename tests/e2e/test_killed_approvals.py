"""`kill -9` while a tool call waits for approval: the answer that asked for it stays true."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import aiohttp
import pytest

from tests.app.serving import SECRET, config
from tests.approvals.office import ARGUMENTS, calls
from tests.e2e.process import GatewayProcess
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.e2e

KILLS = 5
TOOLS = """
import os

from opensoul.api import ToolResult, ToolSpec


class Courier:
    async def tools(self, context):
        return (ToolSpec("send", "Sends something.", ask=True),)

    async def run(self, context, call, *, key):
        with open(os.environ["SENT"], "a") as sent:
            sent.write(call.arguments + "\\n")
        yield ToolResult("sent")

    async def close(self):
        pass
"""


def install(folder: Path) -> None:
    """A package with the tool, as an installer would put it there."""
    facts = folder / "courier-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: courier\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[opensoul.tools]\ncourier = courier:Courier\n")
    (folder / "courier.py").write_text(TOOLS)


async def said(gateway: GatewayProcess, text: str) -> tuple[int, str]:
    """The status and the text of the answer."""
    question = {"messages": [{"role": "user", "content": text}]}
    headers = {"Authorization": f"Bearer {SECRET}"}
    url = f"{gateway.url}/v1/chat/completions"
    async with aiohttp.request("POST", url, json=question, headers=headers) as response:
        body = await response.json()
        if response.status != 200:
            return response.status, ""
        return 200, body["choices"][0]["message"]["content"]


async def test_an_approval_that_was_asked_for_can_be_given_after_a_kill(tmp_path: Path) -> None:
    install(tmp_path / "packages")
    sent = tmp_path / "sent"
    environment = {"PYTHONPATH": str(tmp_path / "packages"), "SENT": str(sent)}
    async with FakeProvider() as provider:
        whole = json.dumps(config(provider.base_url, tools={"allow": ["send"]}))
        gateway = GatewayProcess(tmp_path, whole, environment=environment)
        async with gateway:
            for kills in range(1, KILLS + 1):
                provider.will(calls(), answer("It is sent."))
                _, asked = await said(gateway, "Send it.")
                (code,) = re.findall(r"^approve (\S+)$", asked, re.MULTILINE)
                await asyncio.to_thread(gateway.kill)
                await asyncio.to_thread(gateway.start)

                assert await said(gateway, f"approve {code}") == (200, "It is sent.")

                assert sent.read_text() == f"{json.dumps(ARGUMENTS)}\n" * kills
                await asyncio.to_thread(gateway.kill)
                await asyncio.to_thread(gateway.start)
                assert (await said(gateway, f"approve {code}"))[0] == 404
