"""What every SessionStore promises about turns that begin a branch of a transcript."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.persistence.common.journal_codec import decode_open_turn, encode_open_turn
from opensoul.domain.errors import LeaseLost
from opensoul.domain.messages import Message, Role, Text, ToolCall
from opensoul.domain.ports import OpenTurn, Turn
from opensoul.domain.runs.journal import Step, result_of
from opensoul.domain.sessions import Span, Summary
from opensoul.domain.tools import ToolResult

from .building import KEY, answer, make_turn, question
from .run_logs import HandClock
from .test_store_contract import PLENTY, STORES

CALL = ToolCall("a", "read", "{}")
STEP = Step(Message(Role.ASSISTANT, (Text("I look."), CALL)), (result_of(CALL, ToolResult("x")),))
SPAN = Span("first", 0, 2)


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """With two turns in the transcript `first`, which is read: it may be kept in memory."""
    store: Any = STORES[request.param](request, HandClock())
    await store.open()
    await store.append(make_turn("1", at=1.0))
    await store.append(make_turn("2", at=2.0))
    await store.load(KEY, PLENTY)
    yield store
    await store.close()


def branch(run_id: str = "3", through: int = 2, origin: str = "first", **changes: Any) -> Turn:
    turn = make_turn(run_id, session_id="second", at=3.0)
    return replace(turn, history=Span(origin, 0, through), **changes)


async def current(store: Any) -> tuple[str, list[str]]:
    """The current transcript, as it is loaded and as people see it."""
    session = await store.load(KEY, PLENTY)
    kept = await store.messages(KEY, limit=100)
    assert session.tail.messages == tuple(one.message for one in kept)
    assert session.message_count == len(kept)
    return session.session_id, texts([one.message for one in kept])


async def named(store: Any, session_id: str) -> list[str]:
    kept = await store.messages(KEY, limit=100, session_id=session_id)
    return texts([one.message for one in kept])


def texts(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages]


@pytest.mark.parametrize("through", [0, 1, 2, 4, 9])
async def test_a_branch_begins_with_copies(store: Any, through: int) -> None:
    before = ["1?", "1!", "2?", "2!"]
    await store.append(branch(through=through))

    assert await current(store) == ("second", [*before[:through], "3?", "3!"])
    assert await named(store, "first") == before
    kept = await store.messages(KEY, limit=100)
    assert [one.run_id for one in kept] == [*["1", "1", "2", "2"][:through], "3", "3"]
    info = await store.find(KEY)
    assert (info.session_id, info.updated_at) == ("second", 3.0)
    assert [one.session_id for one in await store.transcripts(KEY, 9)] == ["second", "first"]


async def test_the_turns_after_it_follow_it(store: Any) -> None:
    await store.append(branch())
    await store.append(make_turn("4", session_id="second", at=4.0))
    await store.append(replace(branch("5", 4, "second"), session_id="third"))

    assert await current(store) == ("third", ["1?", "1!", "3?", "3!", "5?", "5!"])
    turn = await store.turn("5")
    assert (turn.session_id, len(turn.messages)) == ("third", 2)


async def test_the_same_turn_again_begins_nothing(store: Any) -> None:
    await store.append(branch())
    await store.append(replace(branch(), session_id="again"))

    assert len(await store.transcripts(KEY, 9)) == 2


async def test_a_session_that_has_gone_on_stays_where_it_is(store: Any) -> None:
    await store.reset(KEY, at=2.5, new_id="later")
    await store.append(branch())

    assert (await store.find(KEY)).session_id == "later"
    assert await named(store, "first") == ["1?", "1!", "2?", "2!", "3?", "3!"]
    assert (await store.turn("3")).session_id == "first"
    assert len(await store.transcripts(KEY, 9)) == 2


async def test_a_session_that_was_deleted_begins_with_the_turn(store: Any) -> None:
    await store.delete(KEY)
    await store.append(branch())

    assert await current(store) == ("second", ["3?", "3!"])


@pytest.mark.parametrize(("through", "kept"), [(1, False), (2, True), (3, True)])
async def test_a_summary_of_more_than_the_branch_has_is_not_its_own(
    store: Any, through: int, kept: bool
) -> None:
    summary = Summary("so far", 2)
    assert await store.put_summary(KEY, "first", summary)
    await store.load(KEY, PLENTY)
    await store.append(branch(through=through))

    session = await store.load(KEY, PLENTY)
    assert session.tail.summary == (summary if kept else None)
    expected = [*["1?", "1!", "2?"][2 if kept else 0 : through], "3?", "3!"]
    assert texts(session.tail.messages) == expected


async def test_an_earlier_attempt_begins_no_branch(store: Any) -> None:
    turn = OpenTurn(KEY, "second", "3", 3.0, (question(),), 2, history=SPAN)
    await store.append_step(turn, 1, STEP)

    with pytest.raises(LeaseLost):
        await store.append(branch(attempt=1))
    assert await current(store) == ("first", ["1?", "1!", "2?", "2!"])
    await store.append(branch(attempt=2))
    assert await store.open_turn("3", 2) is None
    assert (await current(store))[0] == "second"


async def test_a_branch_that_fails_leaves_the_session_as_it_was(store: Any) -> None:
    turn = OpenTurn(KEY, "second", "3", 3.0, (question(),), history=SPAN)
    await store.append_step(turn, 1, STEP)

    assert await store.end_turn(turn, note="[failed]", at=4.0)
    assert await store.open_turns() == ()
    assert await current(store) == ("first", ["1?", "1!", "2?", "2!"])


async def test_a_failed_turn_with_a_part_of_its_transcript_is_stored(store: Any) -> None:
    turn = OpenTurn(KEY, "first", "3", 3.0, (question("3?"),), history=Span("first", 2, 4))
    await store.append_step(turn, 1, STEP)

    assert await store.open_turn("3", 1) == replace(turn, steps=(STEP,))
    assert await store.end_turn(turn, note="[failed]", at=4.0)
    assert (await current(store))[1][4:] == ["3?", "I look.", "x", "[failed]"]


def test_open_turns_of_earlier_releases_have_no_history() -> None:
    turn = OpenTurn(KEY, "second", "3", 3.0, (answer(),), history=SPAN)
    body = json.loads(encode_open_turn(turn))
    assert decode_open_turn(encode_open_turn(turn), "3", 1) == turn
    del body["history"]

    assert decode_open_turn(json.dumps(body).encode(), "3", 1) == replace(turn, history=None)


async def test_an_exact_branch_begins_at_a_transcript_that_is_not_current(store: Any) -> None:
    await store.append(branch())
    exact = replace(make_turn("4", session_id="third", at=4.0), history=Span("first", 0, 2, True))
    await store.append(exact)

    assert await current(store) == ("third", ["1?", "1!", "4?", "4!"])
    assert await named(store, "first") == ["1?", "1!", "2?", "2!"]
    assert await named(store, "second") == ["1?", "1!", "3?", "3!"]


async def test_the_place_of_a_turn_is_that_of_its_own_transcript(store: Any) -> None:
    await store.append(branch())

    spans = [await store.span(run_id) for run_id in ("1", "2", "3", "none")]

    assert spans == [Span("first", 0, 2), Span("first", 0, 4), Span("second", 0, 4), None]


@pytest.mark.parametrize("exact", [False, True])
def test_an_open_turn_keeps_how_its_branch_begins(exact: bool) -> None:
    turn = OpenTurn(KEY, "second", "3", 3.0, (question(),), history=replace(SPAN, exact=exact))

    assert decode_open_turn(encode_open_turn(turn), "3", 1) == turn


def test_an_open_turn_of_an_earlier_version_is_read() -> None:
    turn = OpenTurn(KEY, "second", "3", 3.0, (question(),), history=SPAN)
    body = json.loads(encode_open_turn(turn))
    body["history"] = body["history"][:3]

    assert decode_open_turn(json.dumps(body).encode(), "3", 1) == turn
