"""The copy of a state directory into PostgreSQL: all of it, once, and nothing overwritten."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.persistence.postgres import Database, PostgresKeys
from opensoul.adapters.persistence.postgres.sessions import (
    PostgresApprovals,
    PostgresResponses,
    PostgresStore,
)
from opensoul.adapters.persistence.postgres.transfer import Comparison, Import, Source
from opensoul.adapters.persistence.queue import Lanes, LocalQueue
from opensoul.domain.errors import StoreFailed
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.ports import (
    ApprovalBook,
    KeyBook,
    ResponseBook,
    RunEvents,
    SessionCatalog,
    SessionStore,
)
from opensoul.domain.responses import ItemQuery
from opensoul.domain.runs import RunStatus
from opensoul.domain.runs.records import RunQuery
from opensoul.domain.sessions import SessionKey, SessionQuery
from opensoul.domain.settings import LaneSettings
from tests.fakes.domain import run

from .building import make_turn
from .odd_state import KEYS, ODD, TALK, fill, opened_state
from .postgres_runs import node
from .postgres_stores import opened_database
from .run_logs import END
from .workers import Hands

PLENTY = 10_000_000
KEEP = 86_400.0


async def sessions_of(
    store: SessionStore,
    catalog: SessionCatalog,
    approvals: ApprovalBook,
    responses: ResponseBook,
    keys: KeyBook,
) -> dict[str, Any]:
    """Everything that clients can read, apart from runs."""
    found: dict[str, Any] = {
        "list": await catalog.list(SessionQuery()),
        "search": await catalog.list(SessionQuery(search="läbel \0 \ud800")),
        "open turns": await store.open_turns(),
        "open turn": await store.open_turn("open", 2),
        "pending": await approvals.pending(),
        "decided": await approvals.find("decided"),
        "standing": await approvals.standing(),
        "responses": [await responses.find(name) for name in ("resp_1", "resp_2")],
        "unsettled": await responses.unsettled(TALK),
        "conversation": await responses.conversation(TALK),
        "items": await responses.items(TALK, ItemQuery(10)),
        "behind an item": await responses.items(TALK, ItemQuery(10, after="z")),
        "sizes": await responses.sizes(TALK),
        "keys": await keys.load(),
        "usage": await keys.usage("2026-01-01"),
    }
    for key in KEYS:
        found[f"load {key}"] = await store.load(key, PLENTY)
        transcripts = await catalog.transcripts(key, 10)
        found[f"transcripts {key}"] = transcripts
        for transcript in transcripts:
            found[f"messages {key} {transcript.session_id}"] = await catalog.messages(
                key, limit=100, session_id=transcript.session_id
            )
    for run_id in ("odd \0 run \ud800", "picture", "b3", "b-branch", "c7", "once"):
        found[f"turn {run_id}"] = await catalog.turn(run_id)
        found[f"span {run_id}"] = await catalog.span(run_id)
    return found


async def runs_of(events: RunEvents) -> dict[str, Any]:
    """The runs that have ended, with the cursors that name them, and all their events."""
    page = await events.list(RunQuery(limit=500))
    found: dict[str, Any] = {}
    for record in page.runs:
        if record.status.final:
            batches = [batch async for batch in events.follow_kept(record.id)]
            told = [event for batch in batches for event in batch.events]
            found[record.id] = (record, await events.cursor(record.id), told)
    found["order"] = [record.id for record in page.runs]
    return found


async def everything_here(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    async with opened_state(directory) as state:
        store = state.store
        sessions = await sessions_of(store, store, state.approvals, state.responses, state.keys)
        return sessions, await runs_of(state.events)


async def everything_there(url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    async with opened_database(url) as database:
        store = PostgresStore(database)
        await store.open()
        approvals, responses = PostgresApprovals(database), PostgresResponses(database)
        sessions = await sessions_of(store, store, approvals, responses, PostgresKeys(database))
        await store.close()
    async with node(url, works=False) as idle:
        return sessions, await runs_of(idle.events)


@asynccontextmanager
async def importing(directory: Path, database: Database) -> AsyncIterator[Import]:
    with Source(directory / "opensoul.sqlite3", directory) as source:
        yield Import(source, database, KEEP)


async def copied(directory: Path, database: Database) -> list[Comparison]:
    """Copy, and return what a comparison finds then."""
    async with importing(directory, database) as one:
        await one.copy(await one.compare(), lambda *_: None)
        return await one.compare()


def counts(compared: list[Comparison]) -> dict[str, tuple[int, int, int]]:
    return {
        one.kind.name: (one.there, len(one.missing), len(one.different) + len(one.unreadable))
        for one in compared
    }


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    await fill(tmp_path)
    return tmp_path


@pytest.fixture
async def database(emptied_postgres: str) -> AsyncIterator[Database]:
    async with opened_database(emptied_postgres) as database:
        yield database


async def test_all_that_clients_can_read_is_the_same_afterwards(
    directory: Path, database: Database, emptied_postgres: str
) -> None:
    at_end = await copied(directory, database)
    assert all(one.there == one.total > 0 for one in at_end)

    sessions, runs = await everything_here(directory)
    there, runs_there = await everything_there(emptied_postgres)
    assert {name: there[name] for name in sessions} == sessions
    assert set(there) == set(sessions)
    assert runs_there == runs
    assert len(runs["ended-7 \ud800"][2]) == 302 - 1


async def test_runs_that_were_waiting_and_working_go_on(
    directory: Path, database: Database, emptied_postgres: str
) -> None:
    await copied(directory, database)
    async with node(emptied_postgres) as worker:
        await worker.hands.has(claims=1)
        first = worker.hands.claims[0]
        assert (first.spec.id, first.attempt, first.taken_over, first.lost) == ("first", 2, True, 1)
        assert first.spec.messages == run("first").messages
        batch = await anext(aiter(worker.events.follow("first")))
        assert batch.events[1] == TextDelta("I began.")
        for number, name in enumerate(("first", "second", "third"), 1):
            await worker.hands.has(claims=number)
            claim = worker.hands.claims[-1]
            assert claim.spec.id == name  # In their order, one at a time.
            await worker.queue.finish(claim, END)
        assert (await worker.queue.unfinished())[0].id == "open"
        await worker.queue.resolve("open", "ap \ud800", "allow")
        await worker.hands.has(claims=4)
        assert worker.hands.claims[-1].spec.id == "open"
        # The next run has a number of its own.
        again = await worker.queue.enqueue(run("second", session_key=ODD), once=True)
        assert (again.fresh, again.record.status) == (False, RunStatus.FINISHED)
        assert (await worker.queue.enqueue(run("new"))).fresh
        assert (await worker.events.list(RunQuery(limit=1))).runs[0].id == "new"

    # What a node has done since is a later state, which another call does not undo.
    async with importing(directory, database) as one:
        found = counts(await one.compare())
    assert found["unfinished runs"] == (4, 0, 0)
    assert found["open turns"] == (1, 0, 0)


async def test_a_run_that_cannot_go_on_is_ended_by_a_node(
    tmp_path: Path, database: Database, emptied_postgres: str
) -> None:
    """As after a restart: nothing is known of what a chat completion was asked for."""
    await fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / "runs.sqlite3")) as file, file:
        file.execute("DELETE FROM specs")
    await copied(tmp_path, database)
    async with node(emptied_postgres) as worker:
        await worker.hands.has(claims=1)
        claim = worker.hands.claims[0]
        assert claim.taken_over
        assert claim.attempt > 1
        assert claim.spec.messages == ()


async def test_a_repeat_changes_nothing(directory: Path, database: Database) -> None:
    first = await copied(directory, database)
    async with importing(directory, database) as one:
        again = await one.compare()
        assert counts(again) == counts(first)
        changes = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
        before = await database.rows(changes)
        await one.copy(again, lambda *_: pytest.fail("something was copied"))
        assert await database.rows(changes) == before


async def test_what_differs_is_named_and_not_overwritten(
    directory: Path, database: Database
) -> None:
    await copied(directory, database)
    changed = b"What was said on another machine."
    await database.execute("UPDATE summaries SET body = %s", (changed,))
    await database.execute("DELETE FROM sessions WHERE key = %s", (str(KEYS[1]).encode(),))
    await database.execute("UPDATE api_keys SET record = 'another'")
    await database.execute("UPDATE runs SET source = 'another' WHERE last_seq > 100")

    async with importing(directory, database) as one:
        found = {kind.kind.name: kind for kind in await one.compare()}
        assert found["sessions"].different == [str(KEYS[2])]
        assert found["sessions"].missing == [str(KEYS[1])]
        assert found["API keys"].different == ["key_1"]
        assert found["ended runs"].different == ["ended-7 \ufffd\ufffd\ufffd"]
        await one.copy(list(found.values()), lambda *_: None)
        after = {kind.kind.name: kind for kind in await one.compare()}
    assert after["sessions"].different == [str(KEYS[2])]
    assert not after["sessions"].missing
    assert await database.rows("SELECT body FROM summaries") == [(changed,)]


async def test_a_row_that_cannot_be_read_is_named_and_the_rest_is_copied(
    directory: Path, database: Database
) -> None:
    with closing(sqlite3.connect(directory / "opensoul.sqlite3")) as file, file:
        file.execute(
            "UPDATE turns SET model = 5, at = 'yesterday' WHERE run_id = 'c3'",
        )
    at_end = {one.kind.name: one for one in await copied(directory, database)}
    sessions = at_end["sessions"]
    assert sessions.unreadable == {str(KEYS[2]): "turns: at is no number"}
    assert sessions.there == sessions.total - 1
    there = await database.rows("SELECT key FROM sessions")
    assert (str(KEYS[2]).encode(),) not in there


async def test_a_session_with_a_run_that_is_in_another_one_is_named_and_the_rest_is_copied(
    directory: Path, database: Database
) -> None:
    """Clients may choose the ids of runs."""
    store = PostgresStore(database)
    await store.open()
    await store.append(make_turn("c3", key=SessionKey("main", "elsewhere")))
    await store.close()
    async with importing(directory, database) as one:
        compared = await one.compare()
        await one.copy(compared, lambda *_: None)
        after = {kind.kind.name: kind for kind in await one.compare()}
    sessions = compared[0]
    assert list(sessions.unreadable) == [str(KEYS[2])]
    assert "turns_run_id_key" in sessions.unreadable[str(KEYS[2])]
    assert after["sessions"].missing == [str(KEYS[2])]
    assert [kind.kind.name for kind in after.values() if kind.missing] == ["sessions"]


async def test_a_second_directory_gets_numbers_of_its_own(
    directory: Path, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    async with opened_state(other) as state:
        await state.store.append(make_turn("elsewhere", key=SessionKey("main", "elsewhere")))
        hands = Hands()
        queue = LocalQueue(rows=state.events, lanes=Lanes(LaneSettings), clock=lambda: 1e9)
        queue.serve("me", hands)
        await queue.enqueue(run("other"))
        await queue.finish(hands.claims[-1], END)
    await copied(directory, database)
    at_end = await copied(other, database)
    assert all(one.there == one.total for one in at_end)
    numbers = await database.rows("SELECT number FROM runs WHERE id = 'other'")
    newest = await database.rows("SELECT max(number) FROM runs")
    assert numbers == newest


async def test_a_directory_without_databases_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreFailed, match="no database of a Gateway"),
        Source(tmp_path / "x", tmp_path),
    ):
        pass
