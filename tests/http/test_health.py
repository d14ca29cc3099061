"""Health needs no credential and tells which part fails."""

from __future__ import annotations

from .app import Harness
from .client import Client
from .conftest import AccessLog


async def test_a_living_process_says_so(gateway: Harness, client: Client) -> None:
    gateway.failing = {"store": "The store cannot be written."}

    reply = await client.get("/healthz", headers={})

    assert (reply.status, reply.json) == (200, {"status": "ok"})
    assert reply.headers["x-request-id"].startswith("req_")


async def test_a_fit_gateway_is_ready(client: Client) -> None:
    reply = await client.get("/readyz", headers={})

    assert (reply.status, reply.json) == (200, {"status": "ready"})


async def test_what_fails_is_named(gateway: Harness, client: Client) -> None:
    gateway.failing = {"store": "The store cannot be written."}

    reply = await client.get("/readyz", headers={})

    assert reply.status == 503
    assert reply.json == {
        "status": "not ready",
        "failing": {"store": "The store cannot be written."},
    }


async def test_health_needs_no_switch_and_knows_its_methods(
    gateway: Harness, client: Client, access_log: AccessLog
) -> None:
    gateway.chat(enabled=False)

    assert (await client.get("/healthz", headers={})).status == 200
    assert (await client.ask("POST", "/healthz", headers={})).status == 405
    assert (await access_log.line())["outcome"] == "answered"
