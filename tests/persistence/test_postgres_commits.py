"""What of a Run waits for the disk of the database, and what a crash of the server may lose."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from opensoul.adapters.persistence.postgres import Database, PostgresNodes
from opensoul.adapters.persistence.postgres.runs import (
    PostgresQueue,
    PostgresRunEvents,
    flusher,
)
from opensoul.adapters.persistence.postgres.sessions import PostgresStore
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.ports import NodeInfo
from opensoul.domain.runs.events import Aborted, Failed, Finished, Started
from opensoul.domain.runs.spec import OnLeave
from opensoul.domain.settings import LaneSettings
from tests.fakes.domain import FakeRunner, run

from .building import make_turn
from .pooler import server_of
from .postgres_runs import Node, all_of, node
from .postgres_server import Cluster, private_cluster, server_programs
from .postgres_stores import few_connections
from .run_logs import END
from .test_postgres_executors import process, quick
from .workers import Hands

NEVER = 3_600.0
OPTIONS = ("fsync=off", "autovacuum=off", "wal_writer_delay=10s")
_LONG_AGO = """
    CREATE OR REPLACE FUNCTION server_started() RETURNS double precision LANGUAGE sql STABLE
        AS 'SELECT 0::double precision'"""
_FUNCTIONS = re.compile(r"\b(run_(?:accept|append|finish)|append_turn|load_session|pg_notify)\(")
_WATCH = """
    SELECT node_heartbeat('other', '', 'all', '', '', 1, '', '', 3600, 3600),
        runs_watch(ARRAY['run-1'::bytea], 'other')"""


@pytest.fixture(scope="module")
def slow_cluster(postgres_server: str) -> Iterator[Cluster]:
    """A server whose background process writes what nobody waits for after ten seconds only."""
    programs = server_programs()
    if programs is None:
        pytest.skip("PostgreSQL itself is needed")
    with private_cluster(programs, options=OPTIONS) as cluster:
        yield cluster


@pytest.fixture
async def one(slow_cluster: Cluster) -> AsyncIterator[Node]:
    async with node(slow_cluster.url) as made:
        made.events.flusher.window = NEVER  # A short Run, however slow this machine is.
        yield made
        await made.database.execute("DELETE FROM watchers; DELETE FROM nodes")
        await made.database.execute("DELETE FROM lanes; DELETE FROM events")
        await made.database.execute("DELETE FROM runs; DELETE FROM sessions")


class Disk:
    """Whether the database has waited for its disk since this was made."""

    def __init__(self, one: Node) -> None:
        self._one = one
        self._begin = ""

    async def __aenter__(self) -> Disk:
        # In a new segment: a page of the log that is full is written without a commit, too.
        await self._one.database.rows("SELECT pg_switch_wal()::text")
        (row,) = await self._one.database.rows("SELECT pg_current_wal_insert_lsn()::text")
        self._begin = row[0]
        return self

    async def __aexit__(self, *_: object) -> None:
        query = "SELECT pg_current_wal_flush_lsn() > %s::pg_lsn"
        (row,) = await self._one.database.rows(query, (self._begin,))
        self.waited = row[0]


def calls_of(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions of the database that its statements call from now on."""
    calls: list[str] = []

    def recorded(method: str) -> None:
        original = getattr(database, method)

        async def call(query: str, *values: Any, **options: Any) -> Any:
            calls.extend(_FUNCTIONS.findall(query))
            return await original(query, *values, **options)

        monkeypatch.setattr(database, method, call)

    recorded("rows")
    recorded("execute")
    return calls


@pytest.mark.parametrize(
    ("on_leave", "fingerprint", "behind_another", "waited"),
    [
        pytest.param(OnLeave.ABORT, "", False, False, id="a chat completion"),
        pytest.param(OnLeave.ABORT, "print", False, True, id="with an idempotency key"),
        pytest.param(OnLeave.CONTINUE, "", False, True, id="goes on without its client"),
        pytest.param(OnLeave.ABORT, "", True, True, id="another process may execute it"),
    ],
)
async def test_a_run_that_a_client_can_come_back_for_is_on_the_disk_once_it_is_accepted(
    one: Node, on_leave: OnLeave, fingerprint: str, behind_another: bool, waited: bool
) -> None:
    if behind_another:
        await one.claimed(run("before"))
    async with Disk(one) as disk:
        await one.queue.enqueue(run(on_leave=on_leave), fingerprint=fingerprint)
    assert disk.waited is waited


@pytest.mark.parametrize(
    ("ending", "stored", "followed", "waited"),
    [
        pytest.param(END, True, "", False, id="the turn says how it ended"),
        pytest.param(END, False, "", True, id="nothing else says how it ended"),
        pytest.param(Failed("x", "y"), True, "", True, id="failed"),
        pytest.param(Aborted("x"), True, "", True, id="aborted"),
        pytest.param(END, True, "here", True, id="a follower here relies on what is kept"),
        pytest.param(END, True, "elsewhere", True, id="a client follows from elsewhere"),
    ],
)
async def test_the_end_of_a_run_waits_for_the_disk_unless_its_turn_is_there(
    one: Node, ending: Finished | Failed | Aborted, stored: bool, followed: str, waited: bool
) -> None:
    claim = await one.claimed(run())
    await one.events.append(claim, [Started(0, 0)])
    if stored:
        store = PostgresStore(one.database)
        await store.open()
        async with Disk(one) as disk:
            await store.append(make_turn("run-1"))
        assert disk.waited
        await store.close()
    following = asyncio.create_task(
        all_of(
            one.events.follow_kept("run-1") if followed == "here" else one.events.follow("run-1")
        )
    )
    if followed == "elsewhere":
        await one.database.rows(_WATCH)
    await asyncio.sleep(0)  # The follower waits.
    async with Disk(one) as disk:
        await one.queue.finish(claim, ending)
    assert disk.waited is waited
    assert [event.event for event in await following] == [Started(0, 0), ending]


async def test_a_short_run_is_four_statements_and_a_bell(
    slow_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(slow_cluster.url, "a", quick()) as a:
        a.events.flusher.window = NEVER
        calls = calls_of(a.database, monkeypatch)

        await a.queue.enqueue(run("short"))
        events = await all_of(a.events.follow("short"))
        await a.events.bells.rung()
    assert calls == ["run_accept", "load_session", "append_turn", "run_finish", "pg_notify"]
    assert [type(one.event) for one in events] == [Started, TextDelta, Finished]


@pytest.mark.parametrize(
    ("fingerprint", "stored"),
    [
        pytest.param("", ["run_finish"], id="a chat completion"),
        pytest.param("print", ["run_append", "run_finish"], id="with an idempotency key"),
    ],
)
async def test_events_that_their_client_reads_from_memory_wait_longer_than_others(
    one: Node, monkeypatch: pytest.MonkeyPatch, fingerprint: str, stored: list[str]
) -> None:
    monkeypatch.setattr(flusher, "PATIENCE", NEVER)
    one.events.flusher.window = flusher.LEAST_WINDOW
    await one.queue.enqueue(run(on_leave=OnLeave.ABORT), fingerprint=fingerprint)
    await one.hands.has(claims=1)
    claim = one.hands.claims[0]
    calls = calls_of(one.database, monkeypatch)
    for piece in "abc":
        await one.events.append(claim, [TextDelta(piece)])
        await asyncio.sleep(3 * flusher.LEAST_WINDOW)  # Nothing tells that nothing is stored.
    await one.queue.finish(claim, END)
    await one.events.bells.rung()

    assert list(dict.fromkeys(call for call in calls if call != "pg_notify")) == stored


async def test_a_run_ends_behind_the_events_that_are_on_their_way(
    one: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = await one.claimed(run(on_leave=OnLeave.CONTINUE))
    async with one.events.flusher.writing:
        await one.events.append(claim, [Started(0, 0)])
        for _ in range(5):
            await asyncio.sleep(0)  # The flush begins, and waits for the lock.
        calls = calls_of(one.database, monkeypatch)
        ending = asyncio.create_task(one.queue.finish(claim, END))
        await asyncio.sleep(0)
    await ending
    await one.events.bells.rung()
    assert [call for call in calls if call != "pg_notify"] == ["run_append", "run_finish"]
    query = "SELECT first, last FROM events JOIN runs ON number = run WHERE id = 'run-1' ORDER BY 1"
    assert await one.database.rows(query) == [(1, 1), (2, 2)]


async def test_an_end_that_a_crash_of_the_server_loses_is_stored_again(
    slow_cluster: Cluster,
) -> None:
    """The same holds for a process that dies between the turn and the end."""
    async with process(slow_cluster.url, "a", quick()) as a:
        a.events.flusher.window = NEVER
        await a.queue.enqueue(run("lost"))
        seen = [one.event for one in await all_of(a.events.follow("lost"))]
    slow_cluster.kill_and_restart()
    again = FakeRunner(TextDelta("never"))

    async with process(slow_cluster.url, "b", again) as b:
        (row,) = await b.database.rows("SELECT state, last_seq FROM runs WHERE id = 'lost'")
        assert row == ("held", 0)
        await b.database.execute(_LONG_AGO)
        await b.database.execute("UPDATE runs SET lease_until = 0")
        await b.queue.look()
        kept = await b.told("lost")

        turns = await b.database.rows("SELECT count(*) FROM turns WHERE run_id = 'lost'")
    assert again.seen == []
    assert kept == [event for event in seen if not isinstance(event, Started)]
    assert turns == [(1,)]


async def test_bells_for_other_processes_ring_once_there_is_one(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(postgres_url, "a") as (a, nodes):
        assert nodes.is_alone
        await a.events.bells.rung()
        calls = calls_of(a.database, monkeypatch)
        claim = await a.claimed(run("alone"))
        await a.queue.finish(claim, END)
        await a.events.bells.rung()
        assert "pg_notify" not in calls

        async with joined(postgres_url, "b") as (b, others):
            assert not others.is_alone
            async with asyncio.timeout(20):
                while nodes.is_alone:  # Until the bell of the other process arrives.
                    await a.database.rows("SELECT 1")
            claim = await a.claimed(run("followed"))
            following = asyncio.create_task(all_of(b.events.follow("followed")))
            await a.events.append(claim, [Started(0, 0)])
            await a.queue.finish(claim, END)
            assert [one.event for one in await following] == [Started(0, 0), END]
        await nodes.heartbeat()
        assert nodes.is_alone


@asynccontextmanager
async def joined(url: str, name: str) -> AsyncIterator[tuple[Node, PostgresNodes]]:
    """A process that is in the table of them."""
    database = few_connections(url)
    events = PostgresRunEvents(
        database, clock=time.time, look_every=NEVER, listen_url=server_of(url)
    )
    nodes = PostgresNodes(database, name, lease=NEVER)
    queue = PostgresQueue(events, limits=LaneSettings, nodes=nodes)
    made = Node(name, database, events, queue, Hands())
    queue.serve(name, made.hands)
    await events.start()
    await nodes.join(lambda: NodeInfo(name, name, "all", "1", "here", 1))
    try:
        yield made, nodes
    finally:
        await nodes.leave()
        await queue.close()
        await events.close()
