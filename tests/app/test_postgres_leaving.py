"""The last follower of a chat completion may leave, or die, at any process of the Gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from dependency_injector import providers

from opensoul.adapters.persistence.postgres import PostgresNodes
from opensoul.domain.access import ALL_SCOPES, Principal
from opensoul.domain.errors import StoreFailed
from opensoul.domain.runs import OnLeave, RunQuery, RunRecord, RunStatus
from tests.fakes.behaviours import answer, hang_after
from tests.fakes.provider import FakeProvider

from .nodes import node, nodes
from .serving import Served

PATIENCE = 20.0
"""Seconds; after that it hangs."""
OPERATOR = Principal("operator", ALL_SCOPES, "test")
LONGEST = 3_600


def database(served: Served) -> Any:
    return served.container.run_events().database  # type: ignore[attr-defined]


async def look(served: Served) -> None:
    """What the process does every two seconds."""
    await served.container.work_queue().look()  # type: ignore[attr-defined]


async def until(served: Served, sql: str, value: object) -> None:
    async with asyncio.timeout(PATIENCE):
        while await database(served).rows(sql) != [(value,)]:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.005)


class Client:
    """A streamed chat completion that has begun."""

    def __init__(self, served: Served) -> None:
        self._begun = asyncio.Event()
        self._task = asyncio.create_task(self._ask(served))

    async def _ask(self, served: Served) -> None:
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as client:
            url = f"{served.url}/v1/chat/completions"
            body = served.question(stream=True)
            async with client.post(url, json=body, headers=served.authorization) as response:
                await response.content.readuntil(b"Hel")
                self._begun.set()
                await asyncio.Event().wait()

    async def begun(self, served: Served) -> RunRecord:
        """The Run, once its first text has arrived."""
        await asyncio.wait_for(self._begun.wait(), PATIENCE)
        page = await served.container.gateway().runs(OPERATOR, RunQuery())
        return page.runs[0]

    async def leave(self) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task


@asynccontextmanager
async def following(
    served: Served, record: RunRecord, *, stops: bool = True
) -> AsyncIterator[None]:
    """Another client that follows the Run."""
    async with served.container.gateway().follow(OPERATOR, record, stops=stops) as events:
        await anext(events)
        yield


async def ending(served: Served, run_id: str) -> RunRecord:
    return await served.container.gateway().wait(OPERATOR, run_id, PATIENCE)


@pytest.fixture
def provider_of_hanging_answers() -> FakeProvider:
    return FakeProvider(hang_after("Hel"))


@pytest.mark.parametrize("roles", [("all", "all"), ("gateway", "worker")])
async def test_a_run_goes_on_until_its_last_follower_has_left_at_any_process(
    tmp_path: Path,
    postgres_url: str,
    provider_of_hanging_answers: FakeProvider,
    roles: tuple[str, str],
) -> None:
    async with (
        provider_of_hanging_answers as provider,
        nodes(tmp_path, postgres_url, provider.base_url, a=roles[0], b=roles[1]) as (a, b),
    ):
        client = Client(a)
        run = await client.begun(a)
        request = await provider.arrival()
        async with following(b, run):
            await client.leave()
            await until(a, "SELECT accepted_by FROM runs", "")
            await look(a)
            await look(b)
            status = (await a.container.gateway().run(OPERATOR, run.id)).status
            working = not request.disconnected.is_set()
        ended = await ending(a, run.id)

        assert (status, working) == (RunStatus.RUNNING, True)
        assert ended.status is RunStatus.ABORTED
        await asyncio.wait_for(request.disconnected.wait(), PATIENCE)


async def test_the_order_in_which_clients_leave_does_not_matter(
    tmp_path: Path, postgres_url: str, provider_of_hanging_answers: FakeProvider
) -> None:
    async with (
        provider_of_hanging_answers as provider,
        nodes(tmp_path, postgres_url, provider.base_url, a="all", b="all") as (a, b),
    ):
        client = Client(a)
        run = await client.begun(a)
        async with following(b, run):
            pass
        status = (await b.container.gateway().run(OPERATOR, run.id)).status
        rows = await database(b).rows("SELECT count(*) FROM watchers")
        await client.leave()

        assert (status, rows) == (RunStatus.RUNNING, [(0,)])
        assert (await ending(b, run.id)).status is RunStatus.ABORTED


async def test_a_run_goes_on_behind_a_last_follower_that_only_looks_on(
    tmp_path: Path, postgres_url: str, provider_of_hanging_answers: FakeProvider
) -> None:
    async with (
        provider_of_hanging_answers as provider,
        nodes(tmp_path, postgres_url, provider.base_url, a="all", b="all") as (a, b),
    ):
        client = Client(a)
        run = await client.begun(a)
        async with following(b, run, stops=False):
            await client.leave()
            await until(a, "SELECT accepted_by FROM runs", "")
        await look(a)
        kept = await database(a).rows("SELECT accepted_by, state FROM runs")
        await a.container.gateway().abort(OPERATOR, run.id, "Enough.")

        assert kept == [(None, "held")]
        assert (await ending(b, run.id)).status is RunStatus.ABORTED


async def test_a_follower_stays_when_another_one_leaves_before_it_has_entered(
    tmp_path: Path, postgres_url: str, provider_of_hanging_answers: FakeProvider
) -> None:
    async with (
        provider_of_hanging_answers as provider,
        nodes(tmp_path, postgres_url, provider.base_url, a="all", b="all") as (a, b),
    ):
        client = Client(a)
        run = await client.begun(a)
        entered, leave = asyncio.Event(), asyncio.Event()

        async def follow() -> None:
            async with following(b, run):
                entered.set()
                await leave.wait()

        async def lock(connection: Any) -> asyncio.Task[None]:
            async with connection.transaction():
                await connection.execute("LOCK TABLE watchers IN EXCLUSIVE MODE")
                first = asyncio.create_task(follow())
                await until(
                    a,
                    "SELECT count(*) FROM pg_locks"
                    " WHERE NOT granted AND relation = 'watchers'::regclass",
                    1,
                )
                second = asyncio.create_task(follow())
                await asyncio.sleep(0)  # It has begun to enter.
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
                return second

        second = await database(a).run(lock)
        await asyncio.wait_for(entered.wait(), PATIENCE)
        rows = await database(b).rows("SELECT count(*) FROM watchers")
        await client.leave()
        await until(a, "SELECT accepted_by FROM runs", "")
        await look(a)
        await look(b)
        status = (await a.container.gateway().run(OPERATOR, run.id)).status
        leave.set()
        await second

        assert (rows, status) == ([(1,)], RunStatus.RUNNING)
        assert (await ending(a, run.id)).status is RunStatus.ABORTED


class LosesAnAnswer:
    """A Database whose connection breaks once, behind the commit of a statement."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._is_broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def execute(self, *statement: Any) -> int:
        changed: int = await self._database.execute(*statement)
        if not self._is_broken:
            self._is_broken = True
            raise StoreFailed("The connection broke.")
        return changed


async def test_a_follower_that_could_not_enter_keeps_no_run_going(
    tmp_path: Path, postgres_url: str, provider_of_hanging_answers: FakeProvider
) -> None:
    async with (
        provider_of_hanging_answers as provider,
        nodes(tmp_path, postgres_url, provider.base_url, a="all", b="all") as (a, b),
    ):
        client = Client(a)
        run = await client.begun(a)
        watchers: Any = b.container.work_queue().watchers  # type: ignore[attr-defined]
        watchers._database = LosesAnAnswer(database(b))
        with pytest.raises(StoreFailed):
            async with following(b, run):
                pass
        await look(b)
        left = await database(b).rows("SELECT count(*) FROM watchers")
        await client.leave()

        assert left == [(0,)]
        assert (await ending(a, run.id)).status is RunStatus.ABORTED


@pytest.mark.parametrize("sees_the_end", [True, False])
async def test_nothing_is_kept_of_the_followers_of_a_run_that_has_ended(
    tmp_path: Path, postgres_url: str, sees_the_end: bool
) -> None:
    gate = asyncio.Event()
    async with (
        FakeProvider(answer("Hel", "lo!", gate=gate)) as provider,
        nodes(tmp_path, postgres_url, provider.base_url, a="all", b="all") as (a, b),
    ):
        client = Client(a)
        run = await client.begun(a)
        async with b.container.gateway().follow(OPERATOR, run) as events:
            await anext(events)
            assert await database(b).rows("SELECT count(*) FROM watchers") == [(1,)]
            gate.set()
            await ending(a, run.id)
            if sees_the_end:
                async for _ in events:
                    pass
        await look(b)
        left = await database(b).rows("SELECT count(*) FROM watchers")
        await client.leave()

        assert left == [(0,)]


async def test_following_where_the_run_was_accepted_stores_nothing(
    tmp_path: Path, postgres_url: str
) -> None:
    """A chat completion that the process executes itself costs no further commit."""
    async with (
        FakeProvider() as provider,
        node(tmp_path, postgres_url, provider.base_url) as served,
    ):
        await database(served).execute("ALTER TABLE watchers ADD CHECK (false)")

        assert await served.text() == "Hello there"
        async with served.ask(stream=True) as response:
            assert b"[DONE]" in await response.read()


class Later:
    """A clock that can be set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


async def live_on(directory: PostgresNodes, clock: Later, seconds: float) -> None:
    """So much time passes, in which the process shows that it is there."""
    for _ in range(4):
        clock.ahead += seconds / 4
        await directory.heartbeat()


@pytest.mark.parametrize(
    ("lived", "sql", "status"),
    [
        (
            31,
            "UPDATE nodes SET heartbeat_at = server_now() - lease - 1 WHERE name = 'a'",
            "aborted",
        ),
        (31, "DELETE FROM nodes WHERE name = 'a'", "aborted"),
        # After an interruption the others have had no time to show that they are there.
        (29, "DELETE FROM nodes WHERE name = 'a'", "running"),
    ],
    ids=["silent", "forgotten", "unknown"],
)
async def test_a_worker_stops_a_run_whose_last_followers_process_has_died(
    tmp_path: Path,
    postgres_url: str,
    provider_of_hanging_answers: FakeProvider,
    lived: float,
    sql: str,
    status: str,
) -> None:
    clock = Later()
    own_clock: dict[str, Any] = {"monotonic": providers.Object(clock)}
    async with (
        provider_of_hanging_answers as provider,
        node(tmp_path, postgres_url, provider.base_url, role="gateway", lease=LONGEST) as a,
        node(
            tmp_path, postgres_url, provider.base_url, name="b", role="worker", parts=own_clock
        ) as worker,
    ):
        directory = worker.container.nodes()
        assert isinstance(directory, PostgresNodes)
        await live_on(directory, clock, lived)
        client = Client(a)
        run = await client.begun(a)
        request = await provider.arrival()
        await database(worker).execute(sql)
        await look(worker)
        if status == "running":
            await look(worker)  # What the first one has begun would be done by now.
            assert (await worker.container.gateway().run(OPERATOR, run.id)).status == status
        else:
            assert (await ending(worker, run.id)).status == status
            await asyncio.wait_for(request.disconnected.wait(), PATIENCE)
        await client.leave()
    assert run.on_leave is OnLeave.ABORT


async def test_a_process_that_was_forgotten_enters_its_followers_again(
    tmp_path: Path, postgres_url: str, provider_of_hanging_answers: FakeProvider
) -> None:
    async with (
        provider_of_hanging_answers as provider,
        nodes(tmp_path, postgres_url, provider.base_url, a="all", b="all") as (a, b),
    ):
        client = Client(a)
        run = await client.begun(a)
        directory = b.container.nodes()
        assert isinstance(directory, PostgresNodes)
        async with following(b, run):
            watchers = "SELECT count(*) FROM watchers"
            before = await database(b).rows(watchers)
            await database(b).execute("DELETE FROM nodes WHERE name = 'b'")
            between = await database(b).rows(watchers)
            await directory.heartbeat()
            await until(b, watchers, 1)
        await client.leave()

        assert (before, between) == ([(1,)], [(0,)])
        assert (await ending(b, run.id)).status is RunStatus.ABORTED
