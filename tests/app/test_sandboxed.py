"""Agents with a sandbox in a real Gateway: what a client of the chat endpoint gets of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dependency_injector import providers

from opensoul.client import Client, Options
from tests.app.serving import SECRET, Served, config, serving
from tests.sandbox.available import needs_bubblewrap

MODELS = {"providers": {"scripted": {"api": "scripted", "models": [{"id": "m"}]}}}


def configured(**sandboxes: dict[str, Any]) -> dict[str, Any]:
    """An agent for each sandbox, and `free` without one."""
    agents = [{"id": name, "sandbox": sandbox} for name, sandbox in sandboxes.items()]
    return config(
        agents={"defaults": {"model": "scripted/m"}, "list": [{"id": "free"}, *agents]},
        models=MODELS,
        tools={"allow": ["exec"]},
    )


async def answer(gateway: Served, agent: str, command: str) -> str:
    script = f'/call exec {{"command": "{command}"}}'
    messages = [{"role": "user", "content": script}]
    return await gateway.text(model=f"opensoul:{agent}", messages=messages)


async def sandboxes(gateway: Served) -> dict[str, Any]:
    url = gateway.url.replace("http", "ws", 1)
    options = Options(
        url=url, token=SECRET, client_id="cli", mode="cli", scopes=("operator.admin",)
    )
    async with Client(options) as client:
        rows: list[dict[str, Any]] = (await client.status())["sandboxes"]
    return {row["agentId"]: row for row in rows}


@needs_bubblewrap
async def test_the_commands_of_a_confined_agent_do_not_see_the_gateway(tmp_path: Path) -> None:
    content = configured(kept={"mode": "bubblewrap"})
    async with serving(tmp_path, content) as gateway:
        look = f"ls {tmp_path} {tmp_path}/state; echo > /dev/tcp/127.0.0.1/{gateway.url[-5:]}"
        free = await answer(gateway, "free", look)
        kept = await answer(gateway, "kept", look)
        shown = await sandboxes(gateway)

    assert "opensoul.json" in free
    assert "workspace-kept" in kept
    assert "opensoul.json" not in kept
    assert "workspace-free" not in kept
    assert "Connection refused" in kept
    assert "Connection refused" not in free
    assert shown == {"kept": {"agentId": "kept", "mode": "bubblewrap", "available": True}}


async def test_without_bubblewrap_the_commands_of_confined_agents_are_refused(
    tmp_path: Path,
) -> None:
    content = configured(kept={"mode": "bubblewrap"}, other={"mode": "all", "scope": "agent"})
    env = {"OPENSOUL_STATE_DIR": str(tmp_path / "state"), "PATH": str(tmp_path)}
    async with serving(tmp_path, content, env=providers.Object(env)) as gateway:
        texts = {name: await answer(gateway, name, "echo ran") for name in ("kept", "other")}
        shown = await sandboxes(gateway)

    for name, reason in (("kept", "no program `bwrap`"), ("other", 'mode "all" does not exist')):
        assert "nothing is run without it" in texts[name]
        assert reason in texts[name]
        assert not shown[name]["available"]
        assert reason in shown[name]["problem"]
    assert set(shown) == {"kept", "other"}
