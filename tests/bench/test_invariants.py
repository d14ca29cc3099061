"""The checks after a kill name every violation, and nothing where all is well."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.invariants import (
    Followed,
    Observations,
    StoredTurn,
    answer_to,
    call_violations,
    database_violations,
    event_violations,
    stored_turns,
    turn_violations,
    unfinished_violations,
)
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.execution.recovery import MOST_LOST
from tests.persistence.building import turn_named

KEY = "agent:main:talk-1"


def turn(question: str, **changes: Any) -> StoredTurn:
    return replace(StoredTurn(question, KEY, 2, (question, answer_to(question))), **changes)


def observed(*questions: str) -> Observations:
    """Clients that sent these questions under keys, and have the answers to all of them."""
    seen = Observations(acknowledged=dict.fromkeys(questions, KEY), keyed=set(questions))
    seen.calls.update(questions)
    return seen


def payload(run_id: str, seq: int, stream: str, **data: object) -> dict[str, Any]:
    return {"runId": run_id, "seq": seq, "stream": stream, "data": data}


def events(run_id: str = "key-1") -> list[dict[str, Any]]:
    """All events of a run that finished."""
    text = answer_to(run_id)
    return [
        payload(run_id, 1, "lifecycle", phase="start"),
        payload(run_id, 2, "assistant", delta=text[:5]),
        payload(run_id, 3, "assistant", delta=text[5:]),
        payload(run_id, 4, "lifecycle", phase="end"),
    ]


def followed(*payloads: dict[str, Any]) -> Followed:
    run = Followed("key-1")
    for one in payloads:
        run.take(one)
    return run


def test_whole_turns_are_no_violation() -> None:
    other = turn("chat-2", run_id="a run", session_key="agent:main:talk-2")
    assert list(turn_violations(observed("key-1"), [turn("key-1"), other])) == []


def test_a_turn_that_was_broken_off_is_a_violation_only_when_it_was_acknowledged() -> None:
    broken = turn("key-1", texts=("key-1", answer_to("key-1")[:9]))
    assert list(turn_violations(Observations(), [broken])) == []
    assert list(turn_violations(observed("key-1"), [broken])) == [
        "acknowledged turn 'key-1' is not whole: 'key-1: wo'"
    ]


@pytest.mark.parametrize(
    ("turns", "violation"),
    [
        ([], "acknowledged turn 'key-1' of agent:main:talk-1 is missing"),
        ([turn("key-1", texts=("key-1",))], "turn key-1 has 1 messages of 2"),
        ([turn("key-1"), turn("key-1")], "question 'key-1' has 2 turns"),
        ([turn("key-1", run_id="another")], "key 'key-1' has the turn of run 'another'"),
        ([turn("key-1", texts=("key-1", "x"))], "turn key-1 answers 'key-1' by 'x'"),
        ([turn("key-1", session_key="s")], "turn 'key-1' of agent:main:talk-1 is in s"),
    ],
)
def test_a_violated_turn_is_reported(turns: list[StoredTurn], violation: str) -> None:
    found = list(turn_violations(observed("key-1"), turns))
    assert any(violation in one for one in found), found


def test_more_calls_of_the_provider_than_a_run_may_have_are_reported() -> None:
    seen = observed("key-1", "key-2")
    seen.calls["key-2"] += MOST_LOST - 1
    seen.calls["without a key"] = 1
    assert list(call_violations(seen)) == []
    seen.calls["key-2"] += 1
    seen.calls["without a key"] += 1
    assert list(call_violations(seen)) == [
        f"key 'key-2' ran {MOST_LOST + 1} times",
        "question 'without a key' ran 2 times",
    ]


def test_whole_events_are_no_violation() -> None:
    aborted = payload("key-1", 2, "lifecycle", phase="end", aborted=True)
    for run in (followed(*events()), followed(events()[0], aborted)):
        assert list(event_violations([run], final=True)) == []
    assert list(event_violations([followed(*events()[:2])])) == []


def doubled(sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*sent[:2], *sent[1:]]


def without_one(sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*sent[:1], *sent[2:]]


def swapped(sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [sent[0], sent[2], sent[1], sent[3]]


def renumbered(sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Numbers without a gap hide that a text is missing."""
    return [sent[0], sent[1], {**sent[3], "seq": 3}]


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        (doubled, "event 2 follows 2 (doubled or out of order)"),
        (without_one, "event 3 follows 1 (missing before it)"),
        (swapped, "event 3 follows 1 (missing before it)"),
        (renumbered, "has the text 'key-1'"),
        (lambda sent: sent[:3], "has no terminal event after 3"),
        (lambda sent: [], "has no terminal event after 0"),
    ],
)
def test_violated_events_are_reported(
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], violation: str
) -> None:
    found = list(event_violations([followed(*change(events()))], final=True))
    assert any(violation in one for one in found), found


async def test_turns_are_read_as_the_store_wrote_them(tmp_path: Path) -> None:
    database = tmp_path / "opensoul.sqlite3"
    written = turn_named("r.1.1", caller=1)
    store = SqliteStore(database)
    await store.open()
    await store.append(written)
    await store.close()
    assert list(database_violations(tmp_path)) == []
    (found,) = stored_turns(database)
    assert (found.run_id, found.session_key) == ("r.1.1", str(written.key))
    assert found.wanted == len(found.texts) == len(written.messages)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM messages WHERE role = 'assistant'")
    (found,) = stored_turns(database)
    assert len(found.texts) == found.wanted - 1


async def test_a_damaged_database_is_reported(tmp_path: Path) -> None:
    database = tmp_path / "opensoul.sqlite3"
    store = SqliteStore(database)
    await store.open()
    await store.append(turn_named("r.1.1", caller=1))
    await store.close()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM sessions")
    assert "foreign key" in " ".join(database_violations(tmp_path))


def test_a_database_that_was_never_made_has_no_turns(tmp_path: Path) -> None:
    assert list(database_violations(tmp_path)) == []
    assert list(stored_turns(tmp_path / "opensoul.sqlite3")) == []


def test_a_run_without_a_final_status_is_reported(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "runs.sqlite3")) as connection, connection:
        connection.execute("CREATE TABLE runs (id TEXT, status TEXT)")
        rows = [("a", "finished"), ("b", "running"), ("c", "queued"), ("d", "interrupted")]
        connection.executemany("INSERT INTO runs VALUES (?, ?)", rows)
    assert list(unfinished_violations(tmp_path)) == [
        "run b is left running",
        "run c is left queued",
    ]
