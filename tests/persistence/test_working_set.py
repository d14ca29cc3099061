"""What the SQLite store keeps in memory is what it would read, whoever reads and writes at once."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import pytest

from opensoul.adapters.persistence.sqlite.sessions.working_set import WorkingSet
from opensoul.domain.messages import Image, Message, Role, Text
from opensoul.domain.ports import StoredSession, Transcript, Turn
from opensoul.domain.sessions.history import estimate_all
from opensoul.domain.sessions.keys import SessionKey

from .building import KEY, make_turn

T = TypeVar("T")
BUDGET = 1_000
FIRST, SECOND = make_turn("r1"), make_turn("r2")


def read(*turns: Turn) -> StoredSession:
    """What the file holds once these turns are in it."""
    messages = tuple(message for turn in turns for message in turn.messages)
    tail = Transcript(messages, tokens=estimate_all(messages))
    return StoredSession(turns[-1].key, "first", turns[-1].at, len(messages), tail)


def keep(working_set: WorkingSet, session: StoredSession) -> None:
    with working_set.reading(session.key) as put:
        put(session, BUDGET, None)


@pytest.fixture
def working_set() -> WorkingSet:
    return WorkingSet(1_000_000)


async def settled(future: asyncio.Future[T], result: T | Exception) -> None:
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    await asyncio.sleep(0)


def written() -> asyncio.Future[int]:
    return asyncio.get_running_loop().create_future()


async def test_a_turn_is_added_to_what_is_known(working_set: WorkingSet) -> None:
    keep(working_set, read(FIRST))
    stored = written()
    working_set.appending(SECOND, stored)
    await settled(stored, True)
    assert working_set.get(KEY, BUDGET) == read(FIRST, SECOND)


async def test_what_is_read_while_a_turn_is_written_is_not_counted_twice(
    working_set: WorkingSet,
) -> None:
    stored = written()
    working_set.appending(SECOND, stored)
    keep(working_set, read(FIRST, SECOND))  # It was in the file already, but nobody had been told.
    await settled(stored, True)
    assert working_set.get(KEY, BUDGET) is None
    keep(working_set, read(FIRST, SECOND))
    assert working_set.get(KEY, BUDGET) == read(FIRST, SECOND)


async def test_what_was_being_read_when_a_write_began_is_not_kept(working_set: WorkingSet) -> None:
    changed = written()
    with working_set.reading(KEY) as put:
        working_set.changing(KEY, changed)
        await settled(changed, True)
        put(read(FIRST), BUDGET, None)
    assert working_set.get(KEY, BUDGET) is None


async def test_nothing_read_is_kept_before_the_last_of_several_writes(
    working_set: WorkingSet,
) -> None:
    writes = [written(), written()]
    for write in writes:
        working_set.changing(KEY, write)
    await settled(writes[0], True)
    keep(working_set, read(FIRST))
    assert working_set.get(KEY, BUDGET) is None
    await settled(writes[1], True)
    keep(working_set, read(FIRST))
    assert working_set.get(KEY, BUDGET) == read(FIRST)


@pytest.mark.parametrize("result", [True, OSError("full")])
async def test_a_change_makes_the_session_be_read_again(
    working_set: WorkingSet, result: bool | Exception
) -> None:
    keep(working_set, read(FIRST))
    changed = written()
    working_set.changing(KEY, changed)
    assert working_set.get(KEY, BUDGET) == read(FIRST)
    await settled(changed, result)
    assert working_set.get(KEY, BUDGET) is None


async def test_a_write_to_one_session_does_not_touch_another(working_set: WorkingSet) -> None:
    other = read(make_turn("r1", key=SessionKey("beta", "b")))
    working_set.changing(KEY, written())
    keep(working_set, other)
    assert working_set.get(other.key, BUDGET) == other


@pytest.mark.parametrize(("result", "known"), [(1, False), (0, True), (OSError("full"), False)])
async def test_only_pruning_that_deleted_nothing_leaves_all_known(
    working_set: WorkingSet, result: int | Exception, known: bool
) -> None:
    keep(working_set, read(FIRST))
    pruned: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    working_set.pruning(pruned)
    await settled(pruned, result)
    assert (working_set.get(KEY, BUDGET) is not None) is known


async def test_images_count_with_all_their_bytes() -> None:
    working_set = WorkingSet(100_000)
    image = Message(Role.USER, (Text("look"), Image("A" * 40_000, "image/png")))
    keep(working_set, read(make_turn("r1", image)))
    assert working_set.get(KEY, 10_000) is not None
    stored = written()
    working_set.appending(make_turn("r2", image), stored)
    await settled(stored, True)
    assert working_set.get(KEY, 10_000) is None
