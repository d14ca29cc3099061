"""Whether it is alive, whether it is fit, and what it says when it is not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from dependency_injector import providers

from opensoul.adapters.persistence.memory.run_events import MemoryRunEvents
from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.app.lifecycle import Stopping
from opensoul.app.readiness import Readiness
from opensoul.app.supervisor import Supervisor
from opensoul.domain.errors import StoreFailed
from opensoul.domain.models import Secret
from opensoul.domain.settings import NodeRole, NodeSettings, StoreSettings
from tests.app.serving import Served, config, serving
from tests.fakes.domain import settings


class SickStore(MemoryStore):
    """Answers a check with a failure, or not at all while `stuck`."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck: asyncio.Event | None = None

    async def check(self) -> None:
        if self.stuck is not None:
            await self.stuck.wait()
        raise StoreFailed("The disk is full.")


async def test_both_health_routes_answer_everybody(served: Served) -> None:
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        async with served.client.get(path) as response:
            assert (response.status, await response.json()) == (200, {"status": status})


async def test_a_failing_store_is_named(tmp_path: Path) -> None:
    parts = {"store": providers.Object(SickStore())}
    async with serving(tmp_path, config(), **parts) as served:
        async with served.client.get("/readyz") as ready:
            failing = (await ready.json())["failing"]
        async with served.client.get("/healthz") as alive:
            pass

    assert ready.status == 503
    assert failing == {"store": "The disk is full."}
    assert alive.status == 200


class FullRunLog(MemoryRunEvents):
    def trouble(self) -> str | None:
        return "The run log cannot be written: disk full."


async def test_a_run_log_that_keeps_nothing_is_named_while_runs_go_on(tmp_path: Path) -> None:
    run_log = providers.Object(FullRunLog(clock=time.time))
    async with (
        serving(tmp_path, config(), run_events=run_log) as served,
        served.client.get("/readyz") as ready,
    ):
        named = (await ready.json())["degraded"]

    assert ready.status == 200
    assert named == {"run log": "The run log cannot be written: disk full."}


async def test_a_store_that_does_not_answer_is_named() -> None:
    store = SickStore()
    store.stuck = asyncio.Event()

    failing = await Readiness(
        store=store,
        run_events=MemoryRunEvents(clock=time.time),
        supervisor=Supervisor(),
        store_deadline=0.01,
    ).check()

    assert "did not answer" in failing["store"]


async def test_an_event_loop_that_was_stuck_is_named_until_it_beats_again() -> None:
    store = MemoryStore()
    await store.open()
    readiness = Readiness(
        store=store,
        run_events=MemoryRunEvents(clock=time.time),
        supervisor=Supervisor(),
        beat=0.01,
        late=0.05,
    )
    watching = asyncio.create_task(readiness.watch())
    await asyncio.sleep(0)

    time.sleep(0.2)  # noqa: ASYNC251 - this is what a stuck loop is
    stuck = await readiness.check()
    for _ in range(3):
        await asyncio.sleep(0.01)
    again = await readiness.check()
    watching.cancel()

    assert "behind" in stuck["event loop"]
    assert again == {}


async def test_a_gateway_that_is_left_by_its_clients_is_not_ready_and_takes_runs(
    served: Served,
) -> None:
    stopping = served.container.lifecycle().begin_leaving()

    async with served.client.get("/readyz") as ready, served.ask() as answered:
        text = (await answered.json())["choices"][0]["message"]["content"]

    assert stopping == Stopping(linger=0, grace=20)
    assert (ready.status, answered.status, text) == (503, 200, "Hello!")


def test_only_a_node_that_clients_leave_for_others_waits_for_a_load_balancer() -> None:
    def of(role: NodeRole, url: str | None) -> float:
        store = StoreSettings(url=None if url is None else Secret(url))
        own = replace(settings(), store=store, node=NodeSettings(role=role))
        return Stopping.by(own).linger

    assert of(NodeRole.ALL, None) == 0
    assert of(NodeRole.ALL, "postgresql://db") == 10
    assert of(NodeRole.GATEWAY, "postgresql://db") == 10
    assert of(NodeRole.WORKER, "postgresql://db") == 0


async def test_a_gateway_that_shuts_down_is_not_ready_and_takes_no_runs(served: Served) -> None:
    served.container.lifecycle().begin_drain()
    await asyncio.sleep(0)

    async with served.client.get("/readyz") as ready:
        failing = await ready.json()
    async with served.ask() as refused:
        body = await refused.json()

    assert (ready.status, list(failing["failing"])) == (503, ["gateway"])
    assert (refused.status, body["error"]["code"]) == (503, "shutting_down")
    assert refused.headers["Retry-After"] == "1"
