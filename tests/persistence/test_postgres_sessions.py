"""What several processes may do to the same sessions in PostgreSQL at the same time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from opensoul.adapters.persistence.postgres.sessions import PostgresStore
from opensoul.domain.errors import LeaseLost, StoreFailed
from opensoul.domain.messages import Message, Role, Text
from opensoul.domain.ports import OpenTurn
from opensoul.domain.runs.journal import Step
from opensoul.domain.sessions import SessionQuery, Span, Summary
from opensoul.domain.sessions.keys import SessionKey

from .building import KEY, make_turn, question
from .postgres_server import DIRECT, private_cluster, server_programs
from .postgres_stores import postgres_store

STEP = Step(Message(Role.ASSISTANT, (Text("I look."),)))
OPEN = OpenTurn(KEY, "first", "run-1", 1_000.0, (question(),))


@pytest.fixture
async def nodes(emptied_postgres: str) -> AsyncIterator[list[PostgresStore]]:
    """Stores of four processes, each with connections of its own."""
    stores = [postgres_store(emptied_postgres) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    yield stores
    await asyncio.gather(*(store.close() for store in stores))


async def test_turns_of_all_nodes_are_numbered_without_a_gap(nodes: list[PostgresStore]) -> None:
    turns = [make_turn(f"r{n}", question(f"question {n}")) for n in range(60)]
    await asyncio.gather(*(nodes[n % 4].append(turn) for n, turn in enumerate(turns)))

    kept = await nodes[0].messages(KEY, limit=1_000)
    assert [one.number for one in kept] == [*range(1, 61)]
    assert {one.message.text for one in kept} == {f"question {n}" for n in range(60)}
    info = await nodes[1].find(KEY)
    assert info is not None
    assert info.message_count == 60


async def test_a_run_that_all_nodes_store_is_stored_once(nodes: list[PostgresStore]) -> None:
    await asyncio.gather(*(node.append(make_turn("r1")) for node in nodes for _ in range(3)))

    assert len(await nodes[0].messages(KEY, limit=100)) == 2


async def test_a_session_that_all_nodes_begin_is_one(nodes: list[PostgresStore]) -> None:
    await asyncio.gather(
        *(node.reset(KEY, at=1.0, new_id=f"new-{n}") for n, node in enumerate(nodes)),
        *(node.patch(KEY, {"label": "a"}, at=1.0, new_id="other") for node in nodes),
    )

    page = await nodes[0].list(SessionQuery())
    assert page.total == 1
    assert page.sessions[0].settings == {"label": "a"}


async def test_an_earlier_attempt_is_refused_on_every_node(nodes: list[PostgresStore]) -> None:
    zombie, other, *_ = nodes
    await zombie.append_step(OPEN, 1, STEP)
    assert await other.open_turn("run-1", 2) == replace(OPEN, attempt=2, steps=(STEP,))

    for write in (
        zombie.append_step(OPEN, 2, STEP),
        zombie.append(replace(make_turn("run-1"), attempt=1)),
        zombie.put_summary(KEY, "first", Summary("s", 1, 9), run_id="run-1", attempt=1),
        zombie.end_turn(OPEN, note="lost", at=2.0),
        zombie.open_turn("run-1", 1),
    ):
        with pytest.raises(LeaseLost):
            await write
    await other.append(replace(make_turn("run-1"), attempt=2))
    with pytest.raises(LeaseLost):
        await zombie.append_step(OPEN, 2, STEP)
    assert len(await zombie.messages(KEY, limit=10)) == 2


async def test_of_a_step_and_a_turn_at_the_same_time_the_turn_stays_closed(
    nodes: list[PostgresStore],
) -> None:
    """Whichever comes first: no open turn is left of a run whose turn is stored."""
    names = [f"run-{n}" for n in range(40)]
    await asyncio.gather(
        *(nodes[0].append(replace(make_turn(name), attempt=2)) for name in names),
        *(nodes[1].append_step(replace(OPEN, run_id=name), 1, STEP) for name in names),
        return_exceptions=True,
    )

    assert await nodes[2].open_turns() == ()
    assert (await nodes[2].load(KEY, 0)) is not None


async def test_a_session_may_be_compacted_while_turns_are_added(nodes: list[PostgresStore]) -> None:
    await nodes[0].append(make_turn("before"))
    await nodes[0].append_step(replace(OPEN, run_id="waiting"), 1, STEP)
    turns = [make_turn(f"r{n}") for n in range(30)]
    branch = make_turn("branch", session_id="branched")
    await asyncio.gather(
        *(nodes[n % 4].append(turn) for n, turn in enumerate(turns)),
        *(nodes[1].compact(KEY, 1, at=5.0, new_id=f"compacted-{n}") for n in range(5)),
        nodes[2].append(replace(branch, history=Span("first", 0, 2))),
        nodes[3].end_turn(replace(OPEN, run_id="waiting"), note="lost", at=6.0),
    )

    stored = await asyncio.gather(*(nodes[0].turn(turn.run_id) for turn in turns))
    assert [one.messages for one in stored if one is not None] == [t.messages for t in turns]
    assert await nodes[0].open_turns() == ()


async def test_one_off_sessions_are_pruned_once(nodes: list[PostgresStore]) -> None:
    turns = [make_turn(f"r{n}", key=SessionKey("main", f"{n}"), one_off=True) for n in range(150)]
    await asyncio.gather(*(nodes[n % 4].append(turn) for n, turn in enumerate(turns)))

    assert sum(await asyncio.gather(*(node.prune_one_off(-1.0) for node in nodes))) == 150


@DIRECT
async def test_a_replica_is_named_as_such(emptied_postgres: str) -> None:
    """A session that can only read stands for a replica: both refuse every write."""
    store = postgres_store(emptied_postgres)
    await store.open()
    await store.close()
    options = f"{conninfo_to_dict(emptied_postgres)['options']} -c default_transaction_read_only=on"
    reading = postgres_store(make_conninfo(emptied_postgres, options=options))
    await reading.open()
    try:
        with pytest.raises(StoreFailed, match="read-only"):
            await reading.check()
        with pytest.raises(StoreFailed, match="read-only"):
            await reading.append(make_turn("r1"))
        with pytest.raises(StoreFailed, match="read-only"):
            await reading.check_writable()
        assert await reading.load(KEY, 10) is None
    finally:
        await reading.close()


async def test_no_acknowledged_turn_is_lost_when_the_server_is_killed() -> None:
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL is installed, and a server that others use is not killed")
    with private_cluster(programs, durable=True) as cluster:
        store = postgres_store(cluster.url)
        await store.open()
        acknowledged: list[str] = []
        began, failures = asyncio.Event(), Counter[str]()

        async def write(lane: int) -> None:
            key = SessionKey("main", f"lane-{lane}")
            for n in range(40):
                turn = make_turn(f"{lane}-{n}", key=key)
                while True:
                    try:
                        await store.append(turn)
                    except StoreFailed as error:
                        failures[error.message] += 1
                    else:
                        break
                acknowledged.append(turn.run_id)
                began.set()

        writers = [asyncio.create_task(write(lane)) for lane in range(4)]
        await began.wait()
        await asyncio.to_thread(cluster.kill_and_restart)
        await asyncio.gather(*writers)

        for lane in range(4):
            kept = await store.messages(SessionKey("main", f"lane-{lane}"), limit=1_000)
            runs = list(dict.fromkeys(one.run_id for one in kept))
            assert runs == [f"{lane}-{n}" for n in range(40)]
            assert len(kept) == 80
        assert len(acknowledged) == 160
        await store.close()


def test_a_gateway_with_sqlite_imports_no_driver_of_postgresql() -> None:
    program = "import sys, opensoul.app.container; print('psycopg' in sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert printed.stdout == "False\n"
