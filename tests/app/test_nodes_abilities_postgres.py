"""Nodes of which not each one can execute each agent: those that can execute its runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from opensoul.adapters.providers.local.files import DEFAULT_MODEL, KNOWN_MODELS
from tests.app.nodes import node
from tests.app.serving import SECRET, Served, provider
from tests.cli.command import process
from tests.control.client import Refused, connected

AGENTS: dict[str, Any] = {
    "list": [{"id": "main", "runner": "echo"}, {"id": "coder", "runner": "echo"}]
}


@asynccontextmanager
async def started(
    home: Path, url: str, *nodes: tuple[str, str, list[str] | None], **sections: Any
) -> AsyncIterator[list[Served]]:
    """A process for each name and role, and the agents that it executes."""
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(
                node(home, url, name=name, role=role, executes=executes, **sections)
            )
            for name, role, executes in nodes
        ]
        for one in made:  # All know of all, as after a third of a lease.
            await show(one)
        yield made


async def show(served: Served) -> None:
    """The node looks at what it has, and at the other nodes."""
    await served.container.abilities().look()
    await served.container.nodes().heartbeat()  # type: ignore[attr-defined]


async def run(served: Served, agent: str, key: str) -> str:
    """Execute the agent; the name of the node that has done it."""
    async with connected(served.client, SECRET) as peer:
        sent = {"agentId": agent, "message": "hi", "idempotencyKey": key}
        await peer.call("agent", sent)
        ended = await peer.call("agent.wait", {"runId": key})
        assert ended["status"] == "ok", ended
    url = served.container.settings()().store.url
    assert url is not None
    async with await psycopg.AsyncConnection.connect(url.reveal()) as server:
        owner = "SELECT n.name FROM runs r JOIN nodes n ON n.id = r.owner WHERE r.id = %s"
        row = await (await server.execute(owner, (key.encode(),))).fetchone()
        assert row is not None
        return bytes(row[0]).decode()


async def test_a_run_is_executed_by_a_node_that_can_execute_its_agent(
    emptied_postgres: str, tmp_path: Path
) -> None:
    async with started(
        tmp_path,
        emptied_postgres,
        ("front", "gateway", None),
        ("one", "worker", ["main"]),
        ("two", "worker", ["coder"]),
        agents=AGENTS,
    ) as (front, _, _):
        keys = [f"run {number}" for number in range(12)]
        agents = [("main", "coder")[number % 2] for number in range(12)]
        owners = await asyncio.gather(*map(run, [front] * 12, agents, keys))
        assert owners == ["one", "two"] * 6


async def test_a_node_leaves_what_it_accepts_and_cannot_execute_to_another(
    emptied_postgres: str, tmp_path: Path
) -> None:
    async with started(
        tmp_path,
        emptied_postgres,
        ("one", "all", ["main"]),
        ("two", "all", ["coder"]),
        agents=AGENTS,
    ) as (one, two):
        assert [await run(one, "coder", "a"), await run(two, "coder", "b")] == ["two", "two"]
        assert [await run(one, "main", "c"), await run(two, "main", "d")] == ["one", "one"]
        assert await one.text(model="opensoul:coder") == "[echo after 0 messages] hello"


async def test_a_run_that_nobody_can_execute_is_refused_with_what_each_node_lacks(
    emptied_postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(
        tmp_path,
        emptied_postgres,
        ("front", "gateway", None),
        ("one", "worker", ["main"]),
        ("two", "worker", []),
        agents=AGENTS,
    ) as (front, _, _):
        assert await run(front, "main", "a") == "one"
        lacking = "one: node.agents does not name it. two: node.agents does not name it."
        refusal = f"No node can execute the agent 'coder' now. {lacking}"
        async with connected(front.client, SECRET) as peer:
            with pytest.raises(Refused) as refused:
                await peer.call(
                    "agent", {"agentId": "coder", "message": "hi", "idempotencyKey": "b"}
                )
            assert refused.value.error["message"] == refusal
            listed = (await peer.call("gateway.nodes", {}))["nodes"]
            assert {row["name"]: set(row.get("unable", {})) for row in listed} == {
                "front": set(),
                "one": {"coder"},
                "two": {"main", "coder"},
            }
        async with front.ask(model="opensoul:coder") as response:
            assert (response.status, response.headers["retry-after"]) == (503, "30")
            assert refusal in await response.text()

        monkeypatch.setenv("OPENSOUL_DATABASE_URL", emptied_postgres)
        monkeypatch.setenv("OPENSOUL_STATE_DIR", str(tmp_path / "elsewhere"))
        shown = await asyncio.to_thread(process, "nodes")
        assert shown.code == 0
        sentence = "one does not execute the agent coder: node.agents does not name it.\n"
        assert sentence in shown.err
        doctor = await asyncio.to_thread(process, "doctor")
        assert f"No node can execute the agent coder. {lacking}" in doctor.out + doctor.err
        assert "No node can execute the agent main" not in doctor.out + doctor.err

        async with node(
            tmp_path, emptied_postgres, name="three", role="worker", agents=AGENTS
        ) as three:
            await show(front)
            assert await run(front, "coder", "b") == "three"
            await show(three)


@pytest.mark.parametrize("fallback", [False, True])
async def test_a_node_without_the_file_of_a_local_model_does_not_claim_what_needs_it(
    emptied_postgres: str, tmp_path: Path, fallback: bool
) -> None:
    model: dict[str, Any] = {"primary": f"local/{DEFAULT_MODEL}"}
    if fallback:
        model["fallbacks"] = ["fake/m"]
    agents = {"list": [{"id": "main", "model": model}]}
    local = {"api": "local", "models": [{"id": DEFAULT_MODEL}]}
    models = {"providers": {"fake": provider("http://127.0.0.1:9/v1"), "local": local}}
    async with started(
        tmp_path,
        emptied_postgres,
        ("one", "all", None),
        ("two", "all", None),
        agents=agents,
        models=models,
    ) as (one, two):
        (known,) = [each for each in KNOWN_MODELS if each.id == DEFAULT_MODEL]
        file = known.path_in(tmp_path / "two" / "state" / "models")
        lacks = one.container.abilities().unable
        assert set(lacks) == (set() if fallback else {"main"})
        if not fallback:
            assert (
                f"The model file {tmp_path}/one" in lacks["main"]
                or "extra `local`" in lacks["main"]
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        await show(two)
        assert set(two.container.abilities().unable) <= set(lacks)
