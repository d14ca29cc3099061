"""Background tasks that fail: logged, restarted with growing pauses, named in readiness."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dependency_injector import providers

from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.app.supervisor import Supervisor, backoff
from opensoul.domain.access import Scope
from opensoul.domain.access.devices.pairing import PairingRequired
from opensoul.domain.errors import StoreFailed
from opensoul.domain.services.devices import EXPIRY_SECONDS
from opensoul.domain.sessions.records import SessionPage, SessionQuery
from tests.app.serving import SECRET, Served, config, hurried, serving
from tests.control.client import Peer, connected
from tests.fakes.devices import Desk, Device
from tests.fakes.provider import FakeProvider


class Pauses:
    """A `sleep` that lasts until the test ends it, and remembers for how long it was asked."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begun = asyncio.Semaphore(0)
        self._over = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._begun.release()
        await self._over.acquire()

    async def next(self) -> float:
        """Wait until the task pauses; for how many seconds."""
        await asyncio.wait_for(self._begun.acquire(), 10)
        return self.seconds[-1]

    def end(self) -> None:
        self._over.release()


class Failures:
    """Work that raises what it was made with, one for each attempt, and then succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)
        self.attempts = 0

    async def __call__(self) -> None:
        self.attempts += 1
        if self._errors:
            raise self._errors.pop(0)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest_asyncio.fixture
async def supervisor(pauses: Pauses) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(sleep=pauses)
    yield supervisor
    await supervisor.close()


async def test_a_periodic_task_goes_on_after_failures_and_is_named_until_it_works(
    supervisor: Supervisor, pauses: Pauses, caplog: pytest.LogCaptureFixture
) -> None:
    work = Failures(OSError("of the tests"), OSError("of the tests"))
    supervisor.every("ticks", 30.0, work)
    named: list[tuple[bool, bool]] = []
    for _ in range(4):
        await pauses.next()
        named.append((bool(supervisor.degraded()), bool(supervisor.failing())))
        pauses.end()

    await pauses.next()
    assert named == [(False, False), (True, False), (True, True), (False, False)]
    assert pauses.seconds == [30.0, 1.0, 2.0, 30.0, 30.0]
    assert work.attempts == 4
    assert caplog.messages == [
        "a background task failed",
        "a background task failed",
        "a background task works again",
    ]
    assert "of the tests" in caplog.text, "the traceback is logged"
    assert caplog.records[0].__dict__["task"] == "ticks"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("of the tests"),
        ExceptionGroup("several", [OSError()]),
        StoreFailed("The disk is full."),
        StopAsyncIteration(),
        asyncio.CancelledError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_endless_task_is_restarted_whatever_it_raises(
    supervisor: Supervisor, pauses: Pauses, error: BaseException
) -> None:
    running, forever = asyncio.Event(), asyncio.Event()
    failures = Failures(error)

    async def watch() -> None:
        await failures()
        running.set()
        await forever.wait()

    supervisor.run("watch", watch)

    assert await pauses.next() == 1.0
    assert supervisor.degraded() == {
        "background task watch": "It failed once and is started again; the log has the reason."
    }
    pauses.end()
    await asyncio.wait_for(running.wait(), 10)


async def test_an_endless_task_that_returns_is_restarted(
    supervisor: Supervisor, pauses: Pauses
) -> None:
    work = Failures()
    supervisor.run("watch", work)
    for _ in range(3):
        await pauses.next()
        pauses.end()
    await pauses.next()

    assert work.attempts == 4
    assert "4 times in a row" in supervisor.failing()["background task watch"]


async def test_an_endless_task_is_healthy_again_when_it_has_run_for_a_while() -> None:
    pauses, running, forever = Pauses(), asyncio.Event(), asyncio.Event()
    failures = Failures(OSError(), OSError())

    async def watch() -> None:
        await failures()
        running.set()
        await forever.wait()

    supervisor = Supervisor(sleep=pauses, settled=0.0)
    supervisor.run("watch", watch)
    await pauses.next()
    assert supervisor.degraded()
    pauses.end()
    await pauses.next()
    pauses.end()
    await asyncio.wait_for(running.wait(), 10)

    assert not supervisor.degraded()
    await supervisor.close()


@pytest.mark.parametrize("ends_with", [None, StoreFailed("the database is away")])
@pytest.mark.parametrize("endless", [False, True])
async def test_closing_ends_a_task_whose_work_has_lost_the_cancellation(
    endless: bool, ends_with: Exception | None
) -> None:
    """As `asyncio.wait_for` may do, where what it waits for is done at that moment."""
    supervisor, at_work = Supervisor(), asyncio.Event()
    attempts = 0

    async def work() -> None:
        nonlocal attempts
        attempts += 1
        at_work.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if attempts > 1:
                raise
        if ends_with is not None:
            raise ends_with

    if endless:
        supervisor.run("work", work)
    else:
        supervisor.every("work", 0.0, work)
    await at_work.wait()
    await asyncio.wait_for(supervisor.close(), 10)
    assert attempts == 1


async def test_closing_ends_tasks_at_work_and_in_a_pause(
    supervisor: Supervisor, pauses: Pauses
) -> None:
    running, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    supervisor.run("at work", work)
    supervisor.every("in a pause", 5.0, Failures())
    await pauses.next()
    await running.wait()
    await supervisor.close()

    assert ended.is_set()
    assert not supervisor.degraded()


def test_pauses_grow_up_to_a_minute() -> None:
    assert [backoff(n) for n in (1, 2, 3, 6, 7, 10_000)] == [1, 2, 4, 32, 60, 60]


class FailingCatalog(MemoryStore):
    """Lists of sessions fail as often as it is told to, with an error that nobody expects."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.failed = asyncio.Event()

    async def list(self, query: SessionQuery) -> SessionPage:
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise LookupError("of the tests")
        return await super().list(query)


class HurriedPauses:
    """A `sleep` that takes a thousandth of the time; the first one after a failure of `store`
    lasts until the test has looked."""

    def __init__(self, store: FailingCatalog) -> None:
        self._store = store
        self.looked = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 1_000)
        if self._store.failed.is_set():
            await self.looked.wait()


async def readiness(client: Any) -> tuple[int, dict[str, Any]]:
    async with client.get("/readyz") as response:
        return response.status, await response.json()


@asynccontextmanager
async def failing(
    tmp_path: Path, failures: int
) -> AsyncIterator[tuple[Served, Peer, HurriedPauses]]:
    """A Gateway with one client, whose health event fails as soon as it is due."""
    store = FailingCatalog()
    pauses = HurriedPauses(store)
    parts: dict[str, Any] = {
        "store": providers.Object(store),
        "supervisor": providers.Singleton(Supervisor, sleep=pauses),
    }
    async with (
        serving(tmp_path, config(), **parts) as served,
        connected(served.client, SECRET) as peer,
    ):
        store.failures = failures
        await asyncio.wait_for(store.failed.wait(), 10)
        yield served, peer, pauses


async def test_one_failure_is_named_without_making_the_gateway_unready(tmp_path: Path) -> None:
    async with failing(tmp_path, 1) as (served, _, pauses):
        status, body = await readiness(served.client)
        pauses.looked.set()

    assert (status, body["status"]) == (200, "ready")
    assert list(body["degraded"]) == ["background task health events"]


async def test_ticks_go_on_while_health_events_fail_and_readiness_names_them(
    tmp_path: Path,
) -> None:
    async with failing(tmp_path, 1_000_000) as (served, peer, pauses):
        pauses.looked.set()
        supervisor = served.container.supervisor()
        await peer.until(supervisor.failing)  # Looks anew with each tick.
        await peer.event("tick")
        status, body = await readiness(served.client)
        assert status == 503
        assert list(body["failing"]) == ["background task health events"]

        served.container.store().failures = 0  # type: ignore[attr-defined]
        await peer.event("health", ok=True)
        await peer.until(lambda: not supervisor.degraded())
        assert await readiness(served.client) == (200, {"status": "ready"})


async def test_a_damaged_settings_cell_ends_neither_ticks_nor_lists(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with (
        serving(tmp_path, config(provider.base_url), supervisor=hurried()) as served,
        connected(served.client, SECRET) as peer,
    ):
        for name in ("sound", "damaged"):
            await served.text({"x-opensoul-session-key": f"agent:main:{name}"})
        path = served.container.settings()().store.path
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE sessions SET settings = x'7b' WHERE key LIKE '%damaged'")

        await peer.event("health", ok=True, sessions__count=2)
        await peer.event("tick")
        listed = await peer.call("sessions.list", {"includeDerivedTitles": True})
        assert {row["key"] for row in listed["sessions"]} == {
            "agent:main:sound",
            "agent:main:damaged",
        }
        assert (await peer.call("status"))["sessions"]["count"] == 2
        assert await readiness(served.client) == (200, {"status": "ready"})


async def test_pairing_requests_expire_after_a_failed_write(
    supervisor: Supervisor, pauses: Pauses
) -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    with pytest.raises(PairingRequired):
        await devices.enter(device.visitor(Scope.READ), token=None)
    session_service.clock.advance(3_600)
    supervisor.every("expiry", EXPIRY_SECONDS, devices.expire)

    session_service.book.failure = StoreFailed("No space left on device")
    for _ in range(2):
        await pauses.next()
        pauses.end()
    await pauses.next()
    assert "background task expiry" in supervisor.failing()
    assert session_service.book.state.pending
    session_service.book.failure = None
    pauses.end()
    await pauses.next()

    assert not session_service.book.state.pending
    assert not supervisor.degraded()
