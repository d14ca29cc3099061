"""`status`: what it shows of MCP servers, sandboxes and Python agents, and to whom."""

from __future__ import annotations

from dataclasses import replace

from opensoul.adapters.transports.control.connection import Call
from opensoul.adapters.transports.control.health_report import HealthReport

from .methods import READER, Bench, connection

WORKS = {"name": "works", "state": "running", "tools": ["works__add"]}
FAILS = {"name": "fails", "state": "failed", "problem": "no licence"}


async def test_only_administrators_see_why_a_server_failed() -> None:
    bench = Bench()
    await bench.store.open()
    report = HealthReport(replace(bench.dependencies, tool_servers=lambda: [WORKS, FAILS]))
    reader = connection("reader", READER)
    shown = {
        client.id: (await report.status(Call("status", client, list[object]().append)))["mcp"]
        for client in (bench.operator, reader)
    }
    assert shown == {
        "operator": {"servers": [WORKS, FAILS]},
        "reader": {"servers": [WORKS, {"name": "fails", "state": "failed"}]},
    }


async def test_only_administrators_see_why_a_sandbox_is_not_available() -> None:
    bench = Bench()
    await bench.store.open()
    row = {"agentId": "main", "mode": "bubblewrap", "available": False}

    async def sandboxes() -> list[dict[str, object]]:
        return [{**row, "problem": "no bwrap in /opt"}]

    report = HealthReport(replace(bench.dependencies, sandboxes=sandboxes))
    reader = connection("reader", READER)
    shown = {
        client.id: (await report.status(Call("status", client, list[object]().append)))["sandboxes"]
        for client in (bench.operator, reader)
    }
    assert shown == {"operator": await sandboxes(), "reader": [row]}


async def test_only_administrators_see_why_a_python_agent_cannot_be_loaded() -> None:
    bench = Bench()
    await bench.store.open()
    row = {"agentId": "main", "isolation": "thread", "state": "failed"}
    private = {"target": "agents:main", "problem": "no module /srv/agents.py"}

    report = HealthReport(replace(bench.dependencies, python_agents=lambda: [row | private]))
    reader = connection("reader", READER)
    shown = {
        client.id: (await report.status(Call("status", client, list[object]().append)))[
            "pythonAgents"
        ]
        for client in (bench.operator, reader)
    }
    assert shown == {"operator": [row | private], "reader": [row]}


async def test_what_is_not_configured_is_not_mentioned() -> None:
    bench = Bench()
    await bench.store.open()
    status = await HealthReport(bench.dependencies).status(
        Call("status", bench.operator, list[object]().append)
    )
    assert "mcp" not in status
    assert "sandboxes" not in status
    assert "pythonAgents" not in status
