"""`kill -9` while a sub-agent works: it goes on with its parent, or ends with it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.app.delegating import call, content, spawn
from tests.app.serving import SECRET
from tests.control.client import Peer, connected
from tests.e2e.process import GatewayProcess

pytestmark = pytest.mark.e2e

TALK = "agent:main:talk"
Ask = Callable[[GatewayProcess, str], Coroutine[Any, Any, object]]


async def ask(gateway: GatewayProcess, script: str) -> dict[str, Any]:
    """The answer to a chat completion, which nobody goes on with after a kill."""
    url = f"{gateway.url}/v1/chat/completions"
    question = {"model": "opensoul", "messages": [{"role": "user", "content": script}]}
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with aiohttp.request("POST", url, json=question, headers=headers) as response:
        body: dict[str, Any] = await response.json()
        return body


async def submit(gateway: GatewayProcess, script: str) -> None:
    """Ask for a run that goes on, and see the events of its sub-agent."""
    async with entered(gateway) as peer:
        params = {"message": script, "sessionKey": TALK, "idempotencyKey": "parent"}
        await peer.call("sessions.subscribe", {})
        peer.send("agent", params)
        await peer.until(lambda: any(map(is_of_a_sub_agent, peer.events)))


def is_of_a_sub_agent(frame: dict[str, Any]) -> bool:
    payload = frame.get("payload") or {}
    return frame["event"] == "agent" and ":subagent:" in payload["sessionKey"]


@asynccontextmanager
async def entered(gateway: GatewayProcess) -> AsyncIterator[Peer]:
    async with aiohttp.ClientSession(gateway.url) as client, connected(client, SECRET) as peer:
        yield peer


async def killed_while_a_sub_agent_works(gateway: GatewayProcess, begin: Ask) -> None:
    """The command of the sub-agent says when it is running."""
    says = gateway.home / "says"
    await asyncio.to_thread(os.mkfifo, says)
    task = call("exec", command=f"echo begun > {says}; sleep 600")
    asking = asyncio.create_task(begin(gateway, spawn(task)))
    assert await asyncio.to_thread(says.read_text) == "begun\n"
    if begin is submit:
        await asking
    await asyncio.to_thread(gateway.kill)
    if begin is ask:
        with pytest.raises(aiohttp.ClientError):
            await asking
    await asyncio.to_thread(gateway.start)


async def runs(peer: Peer) -> dict[bool, dict[str, Any]]:
    """The parent's run under False, that of the sub-agent under True; there are no others."""
    listed = (await peer.call("runs.list", {}))["runs"]
    assert len(listed) == 2
    return {":subagent:" in run["sessionKey"]: run for run in listed}


async def test_a_sub_agent_goes_on_with_its_parent_after_a_kill(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path, json.dumps(content("sqlite"))) as gateway:
        await killed_while_a_sub_agent_works(gateway, submit)

        async with entered(gateway) as peer:
            await peer.call("agent.wait", {"runId": "parent", "timeoutMs": 60_000})
            ended = await runs(peer)
            listed = await peer.call("sessions.list", {"spawnedBy": TALK})
            history = await peer.call("chat.history", {"sessionKey": TALK})

    assert [ended[which]["status"] for which in (False, True)] == ["finished"] * 2
    (child,) = listed["sessions"]
    assert child["key"] == ended[True]["sessionKey"]
    answer = json.dumps(history["messages"][-1])
    assert "interrupted: it is not known whether this call took effect" in answer
    assert ended[True]["runId"] in answer


async def test_a_sub_agent_ends_with_a_parent_that_a_kill_has_ended(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path, json.dumps(content("sqlite"))) as gateway:
        await killed_while_a_sub_agent_works(gateway, ask)

        async with entered(gateway) as peer:
            ended = await runs(peer)
        again = await ask(gateway, spawn("Hello."))

    assert [ended[which]["status"] for which in (False, True)] == ["interrupted"] * 2
    assert '"reply": "[scripted] You said: Hello."' in again["choices"][0]["message"]["content"]
