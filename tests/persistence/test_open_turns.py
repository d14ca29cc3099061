"""What every SessionStore promises about turns that have no answer yet."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from opensoul.adapters.persistence.common.journal_codec import encode_open_turn
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.errors import LeaseLost, StoreFailed
from opensoul.domain.messages import Message, Role, Text, ToolCall
from opensoul.domain.models.calls import Usage
from opensoul.domain.ports import OpenTurn, SessionCatalog, SessionStore
from opensoul.domain.runs.journal import INTERRUPTED, NOT_RUN, Step, failed_result, result_of
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.tools import Repeat, ToolResult

from .building import KEY, answer, make_turn, question
from .run_logs import HandClock
from .test_store_contract import PLENTY, STORES

A, B = ToolCall("a", "send", '{"to":"\ud800"}'), ToolCall("b", "read", "{}")
ASKED = Message(Role.ASSISTANT, (Text("I look."), A, B))
BEGUN = Step(ASKED, begun={"a": Repeat.UNSAFE}, usage=Usage(3, 2), model="acme/one", seconds=1.5)
DONE = Step(
    ASKED,
    (result_of(A, ToolResult("sent")), result_of(B, ToolResult("text"))),
    usage=Usage(3, 2, 1, 1, True),
)
FULL = Step(
    ASKED,
    (result_of(A, ToolResult("sent")),),
    begun={"a": Repeat.KEYED, "b": Repeat.SAFE},
    undecided=frozenset("b"),
    injected=(question("and this"),),
)
TURN = OpenTurn(KEY, "first", "run-1", 1_000.0, (question(),))


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    store = STORES[request.param](request, HandClock())
    await store.open()
    yield store
    await store.close()


async def said(store: SessionStore) -> tuple[Message, ...]:
    session = await store.load(KEY, PLENTY)
    return () if session is None else session.tail.messages


@pytest.mark.parametrize("step", [BEGUN, DONE, FULL])
async def test_a_step_comes_back_as_it_was(store: SessionStore, step: Step) -> None:
    await store.append_step(TURN, 1, step)

    assert await store.open_turn("run-1", 1) == replace(TURN, steps=(step,))
    assert await store.open_turns() == (TURN,)
    assert await store.open_turn("run-2", 1) is None
    assert await said(store) == ()


async def test_a_step_replaces_the_one_of_its_number(store: SessionStore) -> None:
    await store.append_step(TURN, 1, BEGUN)
    await store.append_step(TURN, 1, DONE)
    await store.append_step(TURN, 2, BEGUN)

    assert await store.open_turn("run-1", 1) == replace(TURN, steps=(DONE, BEGUN))


async def test_an_earlier_attempt_is_refused(store: SessionStore) -> None:
    await store.append_step(TURN, 1, DONE)

    assert await store.open_turn("run-1", 2) == replace(TURN, attempt=2, steps=(DONE,))

    late = replace(make_turn("run-1"), attempt=1)
    for refused in (
        store.append_step(TURN, 2, DONE),
        store.append(late),
        store.end_turn(TURN, note="late", at=2_000.0),
        store.open_turn("run-1", 1),
    ):
        with pytest.raises(LeaseLost):
            await refused
    assert await store.open_turns() == (replace(TURN, attempt=2),)
    assert await said(store) == ()


async def test_a_refused_turn_keeps_no_other_from_the_store(store: SessionStore) -> None:
    await store.append_step(replace(TURN, attempt=2), 1, DONE)

    with pytest.raises(LeaseLost):
        await store.append(replace(make_turn("run-1"), attempt=1))
    await store.append(make_turn("run-2"))

    assert [message.text for message in await said(store)] == ["run-2?", "run-2!"]


async def test_steps_of_an_earlier_attempt_give_way(store: SessionStore) -> None:
    await store.append_step(TURN, 1, DONE)
    await store.append_step(TURN, 2, DONE)
    again = replace(TURN, attempt=2)

    await store.append_step(again, 1, BEGUN)

    assert await store.open_turn("run-1", 2) == replace(again, steps=(BEGUN,))


async def test_the_answer_takes_the_place_of_the_steps(store: SessionStore) -> None:
    await store.append_step(TURN, 1, DONE)

    await store.append(replace(make_turn("run-1", question(), answer()), attempt=1))

    assert await store.open_turns() == ()
    assert await said(store) == (question(), answer())
    with pytest.raises(LeaseLost):
        await store.append_step(TURN, 2, DONE)
    assert await store.open_turns() == ()


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        pytest.param((DONE,), DONE.messages, id="a complete step"),
        pytest.param(
            (DONE, BEGUN),
            (*DONE.messages, ASKED, failed_result(A, INTERRUPTED), failed_result(B, NOT_RUN)),
            id="and a call that was begun",
        ),
        pytest.param((DONE, Step(ASKED)), DONE.messages, id="and a step without a begun call"),
    ],
)
async def test_what_tools_have_done_is_kept_of_a_turn_without_an_answer(
    store: SessionStore, steps: tuple[Step, ...], kept: tuple[Message, ...]
) -> None:
    for number, step in enumerate(steps, 1):
        await store.append_step(TURN, number, step)

    assert await store.end_turn(TURN, note="It failed.", at=2_000.0)

    assert await said(store) == (question(), *kept, answer("It failed."))
    assert await store.open_turns() == ()
    assert not await store.end_turn(TURN, note="Twice.", at=2_000.0)


async def test_a_turn_that_began_the_session_goes_to_the_current_transcript(
    store: SessionStore,
) -> None:
    first = replace(TURN, session_id="")
    await store.append_step(first, 1, DONE)
    await store.append(make_turn("run-2"))

    assert await store.end_turn(first, note="It failed.", at=2_000.0)

    assert [message.text for message in await said(store)][:3] == ["run-2?", "run-2!", "Why?"]
    only = replace(TURN, session_id="", run_id="run-3", key=SessionKey("main", "other"))
    await store.append_step(only, 1, DONE)
    assert await store.end_turn(only, note="It failed.", at=2_000.0)
    session = await store.load(only.key, PLENTY)
    assert session is not None
    assert session.message_count == 5


async def test_nothing_is_kept_of_a_turn_that_has_begun_no_call(store: SessionStore) -> None:
    await store.append_step(TURN, 1, Step(ASKED, undecided=frozenset("ab")))

    assert await store.end_turn(TURN, note="It failed.", at=2_000.0)

    assert await said(store) == ()
    assert await store.open_turns() == ()


async def test_a_turn_without_an_answer_counts_in_the_catalog(store: SessionStore) -> None:
    await store.append_step(TURN, 1, BEGUN)
    await store.end_turn(TURN, note="It failed.", at=2_000.0)

    assert isinstance(store, SessionCatalog)
    turn = await store.turn("run-1")
    assert turn is not None
    assert (turn.usage, turn.model, turn.at) == (Usage(3, 2), "acme/one", 2_000.0)


async def test_a_deleted_session_has_no_open_turns(store: SessionStore) -> None:
    await store.append(make_turn("run-0"))
    await store.append_step(TURN, 1, DONE)

    assert isinstance(store, SessionCatalog)
    assert await store.delete(KEY)

    assert await store.open_turns() == ()
    assert not await store.end_turn(TURN, note="Too late.", at=2_000.0)
    assert await said(store) == ()


async def test_steps_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    first = SqliteStore(path)
    await first.open()
    await first.append_step(TURN, 1, DONE)
    await first.close()

    second = SqliteStore(path)
    await second.open()
    assert await second.open_turn("run-1", 2) == replace(TURN, attempt=2, steps=(DONE,))
    await second.close()


async def test_a_damaged_step_is_named_and_hides_no_other_turn(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.sqlite3")
    await store.open()
    await store.append_step(TURN, 1, DONE)
    other = replace(TURN, run_id="run-2")
    await store.append_step(other, 1, DONE)
    await store.write(
        lambda connection: (
            connection.execute("UPDATE steps SET body = x'7b' WHERE run_id = 'run-1'").rowcount
        )
    )

    with pytest.raises(StoreFailed, match="cannot be read"):
        await store.open_turn("run-1", 2)
    assert await store.open_turn("run-2", 2) == replace(other, attempt=2, steps=(DONE,))
    await store.close()


async def test_damaged_open_turns_are_left_out(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.sqlite3")
    await store.open()
    turns = [replace(TURN, run_id=f"run-{number}") for number in range(4)]
    for turn in turns:
        await store.append_step(turn, 1, DONE)
    huge = json.loads(encode_open_turn(TURN)) | {"at": 10**400}
    for run_id, cell, damage in (
        ("run-1", "attempt", "x"),
        ("run-2", "body", "text"),
        ("run-3", "body", json.dumps(huge).encode()),
    ):
        sql = f"UPDATE open_turns SET {cell} = ? WHERE run_id = ?"  # noqa: S608 - fixed texts
        await store.write(partial(_execute, sql=sql, values=(damage, run_id)))

    assert [turn.run_id for turn in await store.open_turns()] == ["run-0"]
    for turn in turns[1:]:
        with pytest.raises(StoreFailed):
            await store.open_turn(turn.run_id, 2)
    await store.close()


def _execute(connection: sqlite3.Connection, sql: str, values: tuple[object, ...]) -> None:
    connection.execute(sql, values)


@pytest.mark.parametrize("how", ["compact", "branch"])
async def test_a_turn_goes_on_in_the_transcript_that_its_session_goes_on_in(
    store: SessionStore, how: str
) -> None:
    assert isinstance(store, SessionCatalog)
    for number in range(2):
        await store.append(make_turn(f"earlier-{number}", session_id="first"))
    await store.append_step(TURN, 1, DONE)
    if how == "compact":
        await store.compact(KEY, 2, at=2_000.0, new_id="second")
    else:
        await store.branch(KEY, 2, at=2_000.0, new_id="second")

    turn = await store.open_turn("run-1", 2)

    assert turn == replace(TURN, session_id="second", attempt=2, steps=(DONE,))
