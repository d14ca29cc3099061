"""What every ApprovalBook promises. A new one is one more entry in BOOKS."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from opensoul.adapters.persistence.memory import MemoryApprovals
from opensoul.adapters.persistence.postgres.sessions import PostgresApprovals
from opensoul.adapters.persistence.sqlite.sessions import SqliteApprovals, SqliteStore
from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import ApprovalBook
from opensoul.domain.tools import Approval, Decision, standing_of

from .postgres_stores import opened_database

BOOKS: dict[str, Callable[[SqliteStore], ApprovalBook]] = {
    "memory": lambda _: MemoryApprovals(),
    "sqlite": SqliteApprovals,
}
CALL = ToolCall("c1", "send", "{}")


@pytest.fixture(params=[*BOOKS, "postgres"])
async def book(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ApprovalBook]:
    if request.param == "postgres":
        async with opened_database(request.getfixturevalue("emptied_postgres")) as database:
            yield PostgresApprovals(database)
        return
    store = SqliteStore(tmp_path / "sessions.sqlite3")
    await store.open()
    yield BOOKS[request.param](store)
    await store.close()


def approval(approval_id: str, run_id: str = "r") -> Approval:
    return Approval(approval_id, run_id, "operator", CALL, created_at=10.0, expires_at=20.0)


async def test_an_approval_is_pending_until_it_is_decided(book: ApprovalBook) -> None:
    await book.add(approval("a"))
    await book.add(approval("b"))
    assert await book.pending() == (approval("a"), approval("b"))

    decided = await book.decide("a", Decision.ALLOW, by="ann", at=12.0)

    assert decided == replace(
        approval("a"), decision=Decision.ALLOW, decided_by="ann", decided_at=12.0
    )
    assert await book.find("a") == decided
    assert await book.pending() == (approval("b"),)


async def test_of_decisions_at_the_same_time_one_stands(book: ApprovalBook) -> None:
    await book.add(approval("a"))

    both = await asyncio.gather(
        book.decide("a", Decision.ALLOW, by="ann", at=12.0),
        book.decide("a", Decision.DENY, by="bob", at=12.0),
    )

    assert both[0] == both[1] == await book.find("a")


@pytest.mark.parametrize(
    ("at", "expected"), [(19.9, Decision.ALLOW), (20.0, Decision.EXPIRED), (99.0, Decision.EXPIRED)]
)
async def test_a_decision_that_comes_too_late_is_none(
    book: ApprovalBook, at: float, expected: Decision
) -> None:
    await book.add(approval("a"))

    decided = await book.decide("a", Decision.ALLOW, by="ann", at=at)

    assert decided is not None
    assert decided.decision is expected


async def test_the_same_approval_is_kept_once(book: ApprovalBook) -> None:
    """An attempt that takes a Run over asks again for what was decided meanwhile."""
    await book.add(approval("a"))
    decided = await book.decide("a", Decision.DENY, by="ann", at=12.0)

    assert await book.add(approval("a")) == decided
    assert await book.pending() == ()


async def test_pending_ones_are_of_one_run_or_of_all(book: ApprovalBook) -> None:
    await book.add(approval("a", "r1"))
    await book.add(approval("b", "r2"))

    assert await book.pending("r2") == (approval("b", "r2"),)
    assert len(await book.pending()) == 2


async def test_approvals_are_removed_some_time_after_they_have_expired(book: ApprovalBook) -> None:
    old, new = approval("a"), replace(approval("b"), expires_at=30.0)
    await book.add(old)
    await book.add(new)
    assert await book.prune(25.0) == 0, "nobody has decided on the old one, nor let it expire"
    await book.decide("a", Decision.EXPIRED, by="", at=21.0)
    assert await book.prune(20.5) == 0, "its run may still have to read that"

    assert await book.prune(25.0) == 1

    assert await book.find("a") is None
    assert await book.decide("a", Decision.ALLOW, by="ann", at=12.0) is None
    assert await book.pending() == (new,)


async def test_a_damaged_approval_hides_no_other(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.sqlite3")
    await store.open()
    book = SqliteApprovals(store)
    for name in ("a", "b", "c"):
        await book.add(approval(name))
    for damage in (
        "UPDATE approvals SET body = x'7b' WHERE id = 'a'",
        "UPDATE approvals SET expires_at = 'soon' WHERE id = 'b'",
    ):
        await store.write(partial(_execute, sql=damage))

    assert await book.pending() == (approval("c"),)
    await store.close()


def _execute(connection: sqlite3.Connection, sql: str) -> None:
    connection.execute(sql)


async def test_what_was_allowed_for_always_is_decided_when_it_is_added(book: ApprovalBook) -> None:
    first = replace(approval("a"), agent_id="main", code="ABCD")
    await book.add(first)
    await book.decide("a", Decision.ALLOW_ALWAYS, by="ann", at=12.0)
    assert await book.prune(99.0) == 1
    same = replace(first, id="b", run_id="r2", created_at=30.0, expires_at=40.0)
    others = [
        replace(same, id="c", agent_id="beta"),
        replace(same, id="d", call=replace(CALL, name="receive")),
        replace(same, id="e", call=replace(CALL, arguments='{"to": "eve"}')),
    ]

    always = Decision.ALLOW_ALWAYS
    allowed = replace(same, decision=always, decided_by="ann", decided_at=30.0)
    assert await book.add(same) == await book.find("b") == allowed
    assert [await book.add(other) for other in others] == others


async def test_what_was_allowed_for_always_is_listed_until_it_is_revoked(
    book: ApprovalBook,
) -> None:
    first = replace(approval("a"), agent_id="main")
    other = replace(approval("b"), agent_id="main", call=replace(CALL, arguments='{"to": 1}'))
    for at, one in ((12.0, first), (13.0, other)):
        await book.add(one)
        await book.decide(one.id, Decision.ALLOW_ALWAYS, by="ann", at=at)
    granted = standing_of(first, "ann", 12.0)
    assert await book.standing() == (granted, standing_of(other, "ann", 13.0))

    assert await book.revoke(granted.id)

    assert not await book.revoke(granted.id)
    assert [one.id for one in await book.standing()] == [other.subject]
    again = replace(first, id="c")
    assert await book.add(again) == again


@pytest.mark.parametrize("decision", [Decision.ALLOW, Decision.DENY])
async def test_no_other_decision_is_for_the_next_call(
    book: ApprovalBook, decision: Decision
) -> None:
    await book.add(approval("a"))
    await book.decide("a", decision, by="ann", at=12.0)

    assert await book.add(approval("b")) == approval("b")


async def test_a_late_decision_allows_nothing_for_always(book: ApprovalBook) -> None:
    await book.add(approval("a"))
    await book.decide("a", Decision.ALLOW_ALWAYS, by="ann", at=20.0)

    assert await book.add(approval("b")) == approval("b")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a": 1, "b": [2]}', '{"b":[2],"a":1}', True),
        ('{"a": 1}', '{"a": 1.0}', False),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a"', '{"a"', True),
        ('{"a"', '{"a" ', False),
        ("[" * 100_000, "[" * 100_000, True),
    ],
)
def test_a_subject_names_the_exact_arguments(one: str, other: str, same: bool) -> None:
    subjects = [
        replace(approval("a"), call=replace(CALL, arguments=text)).subject for text in (one, other)
    ]

    assert (subjects[0] == subjects[1]) is same
