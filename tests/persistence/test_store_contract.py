"""What every SessionStore promises. A new store is one more entry in STORES."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.adapters.persistence.postgres.sessions import PostgresStore
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.errors import StoreFailed
from opensoul.domain.messages import Message, Reasoning, Role, Text, ToolCall
from opensoul.domain.models.calls import Usage
from opensoul.domain.ports import Clock, SessionStore, StoredSession, Transcript
from opensoul.domain.sessions.history import estimate_all
from opensoul.domain.sessions.keys import SessionKey

from .building import KEY, answer, make_turn, question
from .postgres_stores import postgres_store
from .run_logs import HandClock


def _sqlite(request: pytest.FixtureRequest, clock: Clock) -> SqliteStore:
    directory: Path = request.getfixturevalue("tmp_path")
    return SqliteStore(directory / "sessions.sqlite3", steady=clock)


def _postgres(request: pytest.FixtureRequest, clock: Clock) -> PostgresStore:
    return postgres_store(request.getfixturevalue("emptied_postgres"), clock)


STORES: dict[str, Callable[[pytest.FixtureRequest, Clock], SessionStore]] = {
    "memory": lambda _, clock: MemoryStore(steady=clock),
    "sqlite": _sqlite,
    "postgres": _postgres,
}
PLENTY = 1_000_000
STRANGE_TEXTS = [
    "../../etc/passwd",
    "'; DROP TABLE sessions; --",
    "caf\u00e9 \u4f60\u597d \U0001f600",
    "a\x00b",
    "lone \ud800 high",
    "\udc00 low",
    "two halves \ud83d\ude00 side by side",
    "x" * 5_000,
]


@pytest.fixture
def steady() -> HandClock:
    return HandClock()


@pytest.fixture(params=STORES)
def closed_store(request: pytest.FixtureRequest, steady: HandClock) -> SessionStore:
    return STORES[request.param](request, steady)


@pytest.fixture
async def store(closed_store: SessionStore) -> AsyncIterator[SessionStore]:
    await closed_store.open()
    yield closed_store
    await closed_store.close()


async def tail_of(
    store: SessionStore, key: SessionKey = KEY, budget: int = PLENTY
) -> tuple[Message, ...]:
    session = await store.load(key, budget)
    assert session is not None
    return session.tail.messages


async def test_a_key_without_turns_is_unknown(store: SessionStore) -> None:
    assert await store.load(KEY, PLENTY) is None


async def test_a_turn_comes_back_as_it_was(store: SessionStore) -> None:
    said = (
        Message(Role.USER, (Text("two"), Text("parts")), name="ann"),
        Message(Role.ASSISTANT, (Reasoning("hm"), ToolCall("c1", "look", "{not json"))),
        Message(Role.TOOL, (Text("seen"),), tool_call_id="c1"),
        Message(
            Role.ASSISTANT,
            (Reasoning("hm", "s", "acme/m"), Reasoning("", "t", "acme/m", redacted=True)),
        ),
        Message(Role.ASSISTANT, ()),
    )
    await store.append(make_turn("r1", *said, at=1_234.5, usage=Usage(3, 4)))
    assert await store.load(KEY, PLENTY) == StoredSession(
        key=KEY,
        session_id="first",
        updated_at=1_234.5,
        message_count=len(said),
        tail=Transcript(said, complete=True),
    )


async def test_messages_are_oldest_first_over_turns(store: SessionStore) -> None:
    turns = [make_turn(f"r{n}") for n in range(12)]
    for turn in turns:
        await store.append(turn)
    assert await tail_of(store) == tuple(m for turn in turns for m in turn.messages)


async def test_the_newest_that_fit_the_budget_are_loaded(store: SessionStore) -> None:
    for n in range(10):
        await store.append(make_turn(f"r{n}"))
    last_two = make_turn("r8").messages + make_turn("r9").messages
    exactly = estimate_all(last_two)
    loaded = await store.load(KEY, exactly)
    assert loaded is not None
    assert loaded.tail == Transcript(last_two, complete=False)
    assert loaded.message_count == 20
    assert await tail_of(store, budget=exactly - 1) == make_turn("r9").messages


async def test_the_tail_starts_with_a_user_message(store: SessionStore) -> None:
    long = answer("long " * 100)
    await store.append(make_turn("r1", question(), long, answer("and more")))
    assert await tail_of(store, budget=estimate_all([long, answer("and more")])) == ()


@pytest.mark.parametrize("budget", [0, -5])
async def test_no_budget_loads_nothing_but_the_facts(store: SessionStore, budget: int) -> None:
    await store.append(make_turn("r1"))
    loaded = await store.load(KEY, budget)
    assert loaded is not None
    assert loaded.tail == Transcript((), complete=False)
    assert loaded.message_count == 2


async def test_another_session_id_starts_a_new_transcript(store: SessionStore) -> None:
    await store.append(make_turn("r1", session_id="first"))
    await store.append(make_turn("r2", session_id="second", at=2_000.0))
    loaded = await store.load(KEY, PLENTY)
    assert loaded is not None
    assert (loaded.session_id, loaded.message_count, loaded.updated_at) == ("second", 2, 2_000.0)
    assert loaded.tail == Transcript(make_turn("r2").messages, complete=True)


async def test_a_turn_of_an_earlier_session_id_does_not_bring_its_transcript_back(
    store: SessionStore,
) -> None:
    for at, run_id, session_id in ((1.0, "r1", "a"), (2.0, "r2", "b"), (3.0, "r3", "a")):
        await store.append(make_turn(run_id, session_id=session_id, at=at))
    loaded = await store.load(KEY, PLENTY)
    assert loaded is not None
    assert (loaded.session_id, loaded.updated_at, loaded.message_count) == ("b", 2.0, 2)
    assert loaded.tail == Transcript(make_turn("r2").messages, complete=True)


async def test_a_run_is_stored_once(store: SessionStore) -> None:
    await store.append(make_turn("r1"))
    await store.append(make_turn("r1", question("other"), session_id="second", at=9_000.0))
    loaded = await store.load(KEY, PLENTY)
    assert loaded is not None
    assert (loaded.session_id, loaded.updated_at) == ("first", 1_000.0)
    assert loaded.tail.messages == make_turn("r1").messages


async def test_sessions_do_not_mix(store: SessionStore) -> None:
    keys = [SessionKey("main", "a"), SessionKey("main", "A"), SessionKey("beta", "a")]
    for n, key in enumerate(keys):
        await store.append(make_turn(f"r{n}", key=key))
    for n, key in enumerate(keys):
        assert await tail_of(store, key) == make_turn(f"r{n}").messages


@pytest.mark.parametrize("text", STRANGE_TEXTS)
async def test_any_text_can_be_a_key_an_id_or_a_message(store: SessionStore, text: str) -> None:
    key = SessionKey("main", text)
    said = Message(Role.USER, (Text(text), ToolCall(text, text, text)), text, text)
    for _ in range(2):
        await store.append(make_turn(text, said, key=key, session_id=text))
    loaded = await store.load(key, PLENTY)
    assert loaded is not None
    assert (loaded.key, loaded.session_id, loaded.tail.messages) == (key, text, (said,))


async def test_a_turn_may_have_no_messages(store: SessionStore) -> None:
    (turn,) = [make_turn("r1")]
    await store.append(type(turn)(KEY, "first", "r0", 1_000.0, ()))
    assert await tail_of(store) == ()
    await store.append(turn)
    assert await tail_of(store) == turn.messages


async def test_absurd_token_counts_do_not_spoil_a_turn(store: SessionStore) -> None:
    await store.append(make_turn("r1", usage=Usage(10**30, -(10**30), estimated=True)))
    assert await tail_of(store) == make_turn("r1").messages


async def test_many_callers_at_once_are_all_stored(store: SessionStore) -> None:
    turns = [make_turn(f"r{n}", key=SessionKey("main", str(n % 7))) for n in range(300)]
    await asyncio.gather(*map(store.append, turns))
    for n in range(7):
        tail = await tail_of(store, SessionKey("main", str(n)))
        assert set(tail) == {m for turn in turns[n::7] for m in turn.messages}


async def test_a_caller_that_gives_up_does_not_disturb_the_others(store: SessionStore) -> None:
    tasks = [asyncio.create_task(store.append(make_turn(f"r{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result for n, result in enumerate(done) if n != 3] == [None] * 19


@pytest.mark.parametrize("at", [0.0, 1_000.0, 4e9])
async def test_old_one_off_sessions_are_pruned_and_nothing_else(
    store: SessionStore, steady: HandClock, at: float
) -> None:
    """Whatever the system's clock says meanwhile."""
    lasting, old, new = (SessionKey("main", name) for name in ("lasting", "old", "new"))
    await store.append(make_turn("r1", key=lasting, at=1_000.0))
    await store.append(make_turn("r2", key=old, at=1_000.0, one_off=True))
    steady.now += 60.0
    await store.append(make_turn("r3", key=new, at=at, one_off=True))
    assert await store.prune_one_off(None) == await store.prune_one_off(60.0) == 0
    steady.now += 1.0
    assert await store.prune_one_off(60.0) == 1
    assert await store.load(old, PLENTY) is None
    assert await tail_of(store, lasting) == make_turn("r1").messages
    assert await tail_of(store, new) == make_turn("r3").messages
    assert await store.prune_one_off(60.0) == 0


async def test_a_one_off_session_that_goes_on_is_kept_from_its_last_turn(
    store: SessionStore, steady: HandClock
) -> None:
    for run_id in ("r1", "r2"):
        steady.now += 50.0
        await store.append(make_turn(run_id, at=1_000.0, one_off=True))

    assert await store.prune_one_off(60.0) == 0
    steady.now += 61.0
    assert await store.prune_one_off(60.0) == 1


async def one_offs(store: SessionStore, count: int, size: int) -> list[int]:
    """Store that many one-off turns; which of them are there."""
    for n in range(count):
        key = SessionKey("main", f"one-{n}")
        await store.append(make_turn(f"one-{n}", question("x" * size), key=key, one_off=True))
    return [n for n in range(count) if await store.load(SessionKey("main", f"one-{n}"), 1)]


async def test_one_off_sessions_take_no_more_than_they_may(store: SessionStore) -> None:
    await store.append(make_turn("r1", question("y" * 200_000)))
    assert await one_offs(store, 20, 5_000) == [*range(20)]
    pruned = await store.prune_one_off(None, 50_000)
    assert 10 < pruned < 15
    assert await store.prune_one_off(None, 50_000) == 0
    left = [n for n in range(20) if await store.load(SessionKey("main", f"one-{n}"), 1)]
    assert left == [*range(pruned, 20)]  # The oldest went.
    assert await tail_of(store, KEY)


async def test_the_bound_of_one_off_sessions_holds_without_being_asked_for(
    store: SessionStore,
) -> None:
    assert await store.prune_one_off(None, 50_000) == 0
    there = await one_offs(store, 60, 5_000)
    assert len(there) < 15
    assert 59 in there


async def test_pruning_many_goes_through_to_the_end(store: SessionStore) -> None:
    turns = [make_turn(f"r{n}", key=SessionKey("main", f"{n}"), one_off=True) for n in range(250)]
    await asyncio.gather(*map(store.append, turns))
    assert await store.prune_one_off(-1.0) == 250
    await store.append(turns[0])
    assert await tail_of(store, turns[0].key) == turns[0].messages


async def test_a_one_off_session_that_is_returned_to_lasts(store: SessionStore) -> None:
    await store.append(make_turn("r1", one_off=True))
    await store.append(make_turn("r2", one_off=False))
    await store.append(make_turn("r3", one_off=True))
    assert await store.prune_one_off(-1.0) == 0


async def test_an_open_store_is_fit(store: SessionStore) -> None:
    for run_id in ("r1", "r2"):
        await store.check()
        await store.check_writable()
        await store.append(make_turn(run_id))


async def refusals(store: SessionStore) -> list[str]:
    """What each method says to being called now."""
    said = []
    for call in (
        store.load(KEY, PLENTY),
        store.append(make_turn("r1")),
        store.prune_one_off(0.0),
        store.check(),
        store.check_writable(),
    ):
        with pytest.raises(StoreFailed) as failure:
            await call
        said.append(failure.value.message)
    return said


async def test_a_store_that_is_not_open_refuses_everything(closed_store: SessionStore) -> None:
    never_opened = await refusals(closed_store)
    await closed_store.open()
    await closed_store.close()
    await closed_store.close()
    assert await refusals(closed_store) == never_opened == ["The session store is not open."] * 5


async def test_closing_finishes_what_was_asked_for(closed_store: SessionStore) -> None:
    await closed_store.open()
    append = asyncio.create_task(closed_store.append(make_turn("r1")))
    load = asyncio.create_task(closed_store.load(KEY, PLENTY))
    await asyncio.sleep(0)
    await closed_store.close()
    await append
    await load
