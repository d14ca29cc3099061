"""`status`: what it says of MCP servers, and to whom."""

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


async def test_without_servers_nothing_is_said_of_them() -> None:
    bench = Bench()
    await bench.store.open()
    status = await HealthReport(bench.dependencies).status(
        Call("status", bench.operator, list[object]().append)
    )
    assert "mcp" not in status
