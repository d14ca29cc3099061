"""What every SessionCatalog promises, of a store that is also a SessionStore."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Protocol

import pytest

from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.adapters.persistence.postgres.sessions import PostgresStore
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.errors import StoreFailed
from opensoul.domain.messages import Image, Message, Reasoning, Role, Text, ToolCall
from opensoul.domain.models.calls import StopReason, Usage
from opensoul.domain.ports import SessionCatalog, SessionStore, StoredSession, Transcript
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.records import (
    KeptMessage,
    KeptTranscript,
    PeriodUsage,
    SessionInfo,
    SessionQuery,
    UsageQuery,
)

from .building import KEY, answer, make_turn, question
from .postgres_stores import postgres_store

PLENTY = 1_000_000
OTHER = SessionKey("beta", "Somebody Else")
ALL = UsageQuery((0.0, inf))


class Store(SessionStore, SessionCatalog, Protocol):
    pass


def _sqlite(request: pytest.FixtureRequest) -> SqliteStore:
    directory: Path = request.getfixturevalue("tmp_path")
    return SqliteStore(directory / "sessions.sqlite3")


def _postgres(request: pytest.FixtureRequest) -> PostgresStore:
    return postgres_store(request.getfixturevalue("emptied_postgres"))


STORES: dict[str, Callable[[pytest.FixtureRequest], Store]] = {
    "memory": lambda _: MemoryStore(),
    "sqlite": _sqlite,
    "postgres": _postgres,
}


@pytest.fixture(params=STORES)
def closed_store(request: pytest.FixtureRequest) -> Store:
    return STORES[request.param](request)


@pytest.fixture
async def store(closed_store: Store) -> AsyncIterator[Store]:
    await closed_store.open()
    yield closed_store
    await closed_store.close()


async def found_keys(store: Store, query: SessionQuery) -> list[str]:
    page = await store.list(query)
    assert page.total == len(page.sessions)
    return [info.key.rest for info in page.sessions]


async def said_in(store: Store, session_id: str | None = None) -> list[str]:
    kept = await store.messages(KEY, limit=100, session_id=session_id)
    assert [message.number for message in kept] == list(range(1, len(kept) + 1))
    return [message.message.text for message in kept]


async def test_nothing_is_told_of_what_is_not_there(store: Store) -> None:
    assert await store.turn("r1") is None
    assert await store.find(KEY) is None
    assert await store.find_by_id("first") == ()
    assert await store.compact(KEY, 10, at=1.0, new_id="new") is None
    assert await store.delete(KEY) is False
    assert await store.messages(KEY, limit=10) == ()
    assert await store.transcripts(KEY, 10) == ()
    assert await store.usage(ALL) == ()
    assert (await store.list(SessionQuery())).total == 0


async def test_a_session_is_told_of_in_full(store: Store) -> None:
    await store.append(make_turn("r1", at=10.0, usage=Usage(3, 4)))
    await store.append(make_turn("r2", at=11.0))
    await store.append(make_turn("r3", at=12.0, usage=Usage(30, 40), model="demo/owl"))
    info = SessionInfo(KEY, "first", 10.0, 12.0, 6, 33, 44, "demo/owl")
    assert await store.find(KEY) == info
    assert await store.find_by_id("first") == (info,)
    assert (await store.list(SessionQuery())).sessions == (info,)


async def test_a_turn_is_found_by_its_run(store: Store) -> None:
    said = (
        Message(Role.USER, (Text("see"), Image("aGk=", "image/png"))),
        Message(Role.ASSISTANT, (Reasoning("hm"), ToolCall("c1", "look", "{}"))),
    )
    turns = [
        replace(make_turn("r1", usage=Usage(3, 4, 1, 2, estimated=True)), stop=StopReason.LENGTH),
        make_turn("r2", *said, at=1_234.5),
        make_turn("r3", key=OTHER, one_off=True),
        make_turn("\ud800", question("\udc00"), key=SessionKey("main", "\ud800"), model="\ud800"),
    ]
    for turn in turns:
        await store.append(turn)
    await store.reset(KEY, at=2_000.0, new_id="second")
    assert [await store.turn(turn.run_id) for turn in turns] == turns


async def test_sessions_are_listed_newest_first_page_by_page(store: Store) -> None:
    for at, name in enumerate(["a", "b", "c", "d", "e"]):
        await store.append(make_turn(name, key=SessionKey("main", name), at=at, one_off=at == 2))
    await store.append(make_turn("again", key=SessionKey("main", "b"), at=9.0))
    pages = [await store.list(SessionQuery(limit=2, offset=offset)) for offset in (0, 2, 4, 6)]
    names = [[info.key.rest for info in page.sessions] for page in pages]
    assert names == [["b", "e"], ["d", "c"], ["a"], []]
    assert {page.total for page in pages} == {5}
    assert [info.one_off for page in pages for info in page.sessions if info.one_off] == [True]


async def test_of_the_same_age_the_one_begun_last_comes_first(store: Store) -> None:
    for name in ("a", "b", "c"):
        await store.append(make_turn(name, key=SessionKey("main", name)))
    assert await found_keys(store, SessionQuery()) == ["c", "b", "a"]


async def test_no_limit_or_offset_is_too_absurd(store: Store) -> None:
    await store.append(make_turn("r1"))
    for limit, offset, listed in ((10**30, -1, 1), (-1, 0, 0), (1, 10**30, 0)):
        page = await store.list(SessionQuery(limit=limit, offset=offset))
        assert (len(page.sessions), page.total) == (listed, 1)
    assert len(await store.messages(KEY, limit=10**30, before=10**30)) == 2
    assert await store.messages(KEY, limit=-1, before=-1) == ()
    assert len(await store.transcripts(KEY, 10**30)) == 1
    assert await store.transcripts(KEY, -1) == ()


async def test_lists_hold_what_was_asked_for(store: Store) -> None:
    await store.append(make_turn("r1", at=1.0))
    await store.append(make_turn("r2", key=OTHER, at=2.0))
    child = SessionKey("main", "child")
    await store.patch(child, {"label": "A B", "spawnedBy": str(KEY)}, at=3.0, new_id="third")
    for query, names in (
        (SessionQuery(agent_id="main"), ["child", "somebody"]),
        (SessionQuery(agent_id="gamma"), []),
        (SessionQuery(updated_after=1.0), ["child", "Somebody Else"]),
        (SessionQuery(updated_after=3.0), []),
        (SessionQuery(label="A B"), ["child"]),
        (SessionQuery(label="a b"), []),
        (SessionQuery(spawned_by=str(KEY)), ["child"]),
        (SessionQuery(spawned_by=str(OTHER)), []),
        (SessionQuery(agent_id="main", updated_after=1.0, label="A B", search="hil"), ["child"]),
        (SessionQuery(agent_id="beta", label="A B"), []),
    ):
        assert await found_keys(store, query) == names


async def test_search_looks_at_key_session_id_and_label_whatever_their_case(store: Store) -> None:
    await store.append(make_turn("r1", key=SessionKey("main", "Müller"), session_id="UPPER"))
    await store.append(make_turn("r2", key=SessionKey("beta", "\ud800x"), session_id="\udc00y"))
    await store.patch(SessionKey("main", "c"), {"label": "STRASSE%"}, at=1.0, new_id="third")
    await store.reset(SessionKey("main", "c"), at=1.0, new_id="fourth")
    for search, names in (
        ("", ["\ud800x", "Müller", "c"]),
        ("mÜLL", ["Müller"]),
        ("agent:BETA", ["\ud800x"]),
        ("upper", ["Müller"]),
        ("\udc00Y", ["\ud800x"]),
        ("straße", ["c"]),
        ("%", ["c"]),
        ("third", []),
        ("FOURTH", ["c"]),
        ("demo", []),
    ):
        assert await found_keys(store, SessionQuery(search=search)) == names


async def test_only_the_current_transcript_names_a_session(store: Store) -> None:
    await store.append(make_turn("r1", at=1.0))
    await store.append(make_turn("r2", key=OTHER, at=2.0))
    assert [info.key for info in await store.find_by_id("first")] == [OTHER, KEY]
    await store.reset(KEY, at=3.0, new_id="second")
    assert [info.key for info in await store.find_by_id("first")] == [OTHER]
    assert [info.key for info in await store.find_by_id("second")] == [KEY]


async def test_settings_are_kept_until_they_are_taken_away(store: Store) -> None:
    await store.append(make_turn("r1"))
    await store.load(KEY, PLENTY)
    first: dict[str, str | bool | int] = {
        "label": "\ud800 two \ud83d\ude00",
        "pinned": True,
        "turns": 10**25,
    }
    told = await store.patch(KEY, first, at=5_000.0, new_id="unused")
    assert told == await store.find(KEY)
    assert (told.settings, told.updated_at, told.session_id) == (first, 1_000.0, "first")
    await store.patch(KEY, {"label": None, "model": "demo/owl"}, at=5_000.0, new_id="unused")
    await store.append(make_turn("r2", at=1_001.0))
    loaded = await store.load(KEY, PLENTY)
    assert loaded is not None
    assert loaded.settings == {"pinned": True, "turns": 10**25, "model": "demo/owl"}
    assert (loaded.session_id, loaded.message_count) == ("first", 4)
    told = await store.patch(KEY, dict.fromkeys(loaded.settings), at=1.0, new_id="unused")
    assert told.settings == {}


async def test_what_somebody_set_does_not_change_with_what_they_passed(store: Store) -> None:
    changes: dict[str, str | bool | int | None] = {"label": "then"}
    told = await store.patch(KEY, changes, at=1.0, new_id="first")
    changes["label"] = "now"
    await store.patch(KEY, {"pinned": True}, at=1.0, new_id="unused")
    assert told.settings == {"label": "then"}
    info = await store.find(KEY)
    assert info is not None
    assert info.settings == {"label": "then", "pinned": True}


@pytest.mark.parametrize("way", ["patch", "reset"])
async def test_a_session_can_begin_without_a_turn(store: Store, way: str) -> None:
    if way == "patch":
        told = await store.patch(KEY, {}, at=5.0, new_id="new")
    else:
        told = await store.reset(KEY, at=5.0, new_id="new")
    assert told == await store.find(KEY) == SessionInfo(KEY, "new", 5.0, 5.0)
    empty = StoredSession(KEY, "new", 5.0, 0, Transcript((), complete=True))
    assert await store.load(KEY, PLENTY) == await store.load(KEY, PLENTY) == empty
    assert await store.messages(KEY, limit=5) == ()
    assert await store.transcripts(KEY, 5) == (KeptTranscript("new", 5.0, 0),)
    await store.append(make_turn("r1", session_id="new", at=6.0))
    loaded = await store.load(KEY, PLENTY)
    assert loaded is not None
    assert (loaded.session_id, loaded.message_count) == ("new", 2)
    assert len(await store.transcripts(KEY, 5)) == 1


async def test_a_reset_keeps_the_settings_and_the_old_transcript(store: Store) -> None:
    await store.append(make_turn("r1", at=1.0, usage=Usage(3, 4)))
    await store.patch(KEY, {"label": "mine"}, at=2.0, new_id="unused")
    told = await store.reset(KEY, at=3.0, new_id="second")
    assert told == SessionInfo(
        KEY, "second", 1.0, 3.0, model="demo/parrot", settings={"label": "mine"}
    )
    loaded = await store.load(KEY, PLENTY)
    assert loaded == StoredSession(KEY, "second", 3.0, 0, Transcript(), {"label": "mine"})
    assert await said_in(store) == []
    assert await said_in(store, "first") == ["r1?", "r1!"]


async def test_a_turn_begun_before_a_reset_stays_in_the_old_transcript(store: Store) -> None:
    await store.append(make_turn("r1", at=1.0))
    await store.load(KEY, PLENTY)
    told = await store.reset(KEY, at=2.0, new_id="second")
    await store.append(make_turn("late", at=3.0, usage=Usage(3, 4), model="demo/owl"))
    assert await store.find(KEY) == told
    loaded = await store.load(KEY, PLENTY)
    assert loaded == StoredSession(KEY, "second", 2.0, 0, Transcript())
    assert await said_in(store, "first") == ["r1?", "r1!", "late?", "late!"]
    assert [kept.session_id for kept in await store.transcripts(KEY, 9)] == ["second", "first"]
    assert (await store.usage(UsageQuery((3.0, inf))))[0].turns == 1


async def test_a_late_turn_goes_to_the_newest_transcript_of_its_id(store: Store) -> None:
    for at, name in enumerate(("first", "second", "first", "third")):
        await store.reset(KEY, at=float(at), new_id=name)
    await store.append(make_turn("late"))
    counts = [kept.message_count for kept in await store.transcripts(KEY, 9)]
    assert counts == [0, 2, 0, 0]


async def test_compacting_goes_on_with_copies_of_the_newest(store: Store) -> None:
    for n in range(1, 4):
        await store.append(make_turn(f"r{n}", at=float(n), model=f"demo/{n}", usage=Usage(1, 1)))
    await store.load(KEY, PLENTY)
    compacted = await store.compact(KEY, 3, at=9.0, new_id="second")
    # The third message from the end is an answer; the two behind it begin with a question.
    assert compacted == (SessionInfo(KEY, "second", 1.0, 9.0, 2, model="demo/3"), 2)
    loaded = await store.load(KEY, PLENTY)
    assert loaded is not None
    assert loaded.tail == Transcript(make_turn("r3").messages, complete=True)
    await store.append(make_turn("r4", session_id="second", at=10.0, model="demo/4"))
    assert [
        (kept.number, kept.at, kept.message.text, kept.run_id, kept.model)
        for kept in await store.messages(KEY, limit=9)
    ] == [
        (1, 3.0, "r3?", "r3", "demo/3"),
        (2, 3.0, "r3!", "r3", "demo/3"),
        (3, 10.0, "r4?", "r4", "demo/4"),
        (4, 10.0, "r4!", "r4", "demo/4"),
    ]
    assert await said_in(store, "first") == ["r1?", "r1!", "r2?", "r2!", "r3?", "r3!"]
    assert await store.turn("r3") == make_turn("r3", at=3.0, model="demo/3", usage=Usage(1, 1))
    assert sum(used.turns for used in await store.usage(ALL)) == 4


async def test_what_was_compacted_can_be_compacted_again(store: Store) -> None:
    long = (question("a"), answer("b"), question("c"), answer("d"), question("e"))
    await store.append(make_turn("r1", *long, at=1.0))
    await store.append(make_turn("r2", at=2.0))
    for keep, new_id in ((6, "second"), (4, "third")):
        await store.compact(KEY, keep, at=9.0, new_id=new_id)
    kept = await store.messages(KEY, limit=9)
    assert [(one.message.text, one.run_id) for one in kept] == [
        ("e", "r1"),
        ("r2?", "r2"),
        ("r2!", "r2"),
    ]
    assert await said_in(store, "second") == ["c", "d", "e", "r2?", "r2!"]


async def test_compacting_to_more_than_there_is_changes_nothing(store: Store) -> None:
    await store.append(make_turn("r1"))
    before = await store.find(KEY)
    assert await store.compact(KEY, 2, at=9.0, new_id="second") == (before, 2)
    assert await store.compact(KEY, 10**30, at=9.0, new_id="second") == (before, 2)
    empty = await store.reset(KEY, at=2_000.0, new_id="second")
    assert await store.compact(KEY, 0, at=9.0, new_id="third") == (empty, 0)


@pytest.mark.parametrize("keep", [1, 0, -1])
async def test_compacting_may_leave_nothing(store: Store, keep: int) -> None:
    await store.append(make_turn("r1"))
    compacted = await store.compact(KEY, keep, at=9.0, new_id="second")
    assert compacted is not None
    assert (compacted[0].session_id, compacted[0].message_count, compacted[1]) == ("second", 0, 0)


@pytest.mark.parametrize(
    ("through", "kept"),
    [
        (3, ["r1?", "r1!", "r2?"]),
        (2, ["r1?", "r1!"]),
        (0, []),
        (-1, []),
        (99, ["r1?", "r1!", "r2?", "r2!"]),
    ],
)
async def test_a_branch_goes_on_with_copies_of_the_oldest(
    store: Store, through: int, kept: list[str]
) -> None:
    for n in (1, 2):
        await store.append(make_turn(f"r{n}", at=float(n), model=f"demo/{n}", usage=Usage(1, 1)))
    await store.load(KEY, PLENTY)

    branched = await store.branch(KEY, through, at=9.0, new_id="second")

    assert branched == SessionInfo(KEY, "second", 1.0, 9.0, len(kept), model="demo/2")
    assert await said_in(store, "second") == kept
    assert await said_in(store, "first") == ["r1?", "r1!", "r2?", "r2!"]
    loaded = await store.load(KEY, PLENTY)
    assert loaded is not None
    assert [message.text for message in loaded.tail.messages] == kept
    copies = await store.messages(KEY, limit=9)
    assert [(one.number, one.run_id) for one in copies] == [
        (number, text[:2]) for number, text in enumerate(kept, 1)
    ]
    assert sum(used.turns for used in await store.usage(ALL)) == 2


async def test_a_branch_of_a_branch_knows_where_its_messages_come_from(store: Store) -> None:
    for n in (1, 2, 3):
        await store.append(make_turn(f"r{n}", at=float(n)))
    await store.compact(KEY, 4, at=8.0, new_id="second")
    await store.branch(KEY, 3, at=9.0, new_id="third")

    kept = await store.messages(KEY, limit=9)

    assert [(one.message.text, one.run_id) for one in kept] == [
        ("r2?", "r2"),
        ("r2!", "r2"),
        ("r3?", "r3"),
    ]
    assert await store.branch(OTHER, 3, at=9.0, new_id="new") is None


async def test_what_is_deleted_is_gone(store: Store) -> None:
    await store.append(make_turn("r1", usage=Usage(3, 4)))
    await store.append(make_turn("r2", key=OTHER, at=1.0))
    await store.patch(KEY, {"label": "mine"}, at=2.0, new_id="unused")
    await store.compact(KEY, 0, at=3.0, new_id="second")
    await store.load(KEY, PLENTY)
    assert await store.delete(KEY) is True
    assert await store.load(KEY, PLENTY) is None
    assert await store.find(KEY) is None
    assert await store.turn("r1") is None
    assert await store.find_by_id("second") == ()
    assert [used.turns for used in await store.usage(ALL)] == [1]
    assert await found_keys(store, SessionQuery()) == [OTHER.rest]
    await store.append(make_turn("r1", session_id="third"))
    loaded = await store.load(KEY, PLENTY)
    assert loaded is not None
    assert (loaded.message_count, loaded.settings) == (2, {})


async def test_messages_are_read_back_from_the_newest(store: Store) -> None:
    await store.append(make_turn("r1", at=1.0, model="demo/owl"))
    await store.append(make_turn("r2", at=2.0))
    assert await store.messages(KEY, limit=2, before=4) == (
        KeptMessage(2, 1.0, answer("r1!"), "r1", "demo/owl"),
        KeptMessage(3, 2.0, question("r2?"), "r2", "demo/parrot"),
    )
    for limit, before, numbers in (
        (3, None, [2, 3, 4]),
        (9, 2, [1]),
        (9, 1, []),
        (0, None, []),
        (1, 99, [4]),
    ):
        kept = await store.messages(KEY, limit=limit, before=before)
        assert [message.number for message in kept] == numbers
    assert await store.messages(KEY, limit=9, session_id="unheard of") == ()


async def test_transcripts_are_told_newest_first_each_with_its_first_question(
    store: Store,
) -> None:
    await store.append(make_turn("r1", answer("hello"), question("what?"), question("why?")))
    await store.append(make_turn("r2", answer(), session_id="second", at=2.0))
    await store.reset(KEY, at=3.0, new_id="third")
    told = (
        KeptTranscript("third", 3.0, 0),
        KeptTranscript("second", 2.0, 1),
        KeptTranscript("first", 1_000.0, 3, "what?"),
    )
    assert await store.transcripts(KEY, 9) == told
    assert await store.transcripts(KEY, 2) == told[:2]


async def test_usage_is_told_by_day_and_model(store: Store) -> None:
    day = 86_400.0
    await store.append(make_turn("r1", at=day - 0.0001, usage=Usage(100, 100)))
    await store.append(make_turn("r2", at=day, usage=Usage(1, 2, cached=1)))
    await store.append(make_turn("r3", at=day, usage=Usage(10, 20), model="demo/owl"))
    await store.append(make_turn("r4", at=2 * day - 0.0001, usage=Usage(3, 4), one_off=True))
    await store.append(make_turn("r5", at=2 * day, key=OTHER))
    late = 2 * day - 0.0001
    second_day = (
        PeriodUsage(0, "main", "demo/owl", 1, 2, 10, 20, 0, day, day),
        PeriodUsage(0, "main", "demo/parrot", 2, 4, 4, 6, 1, day, late),
    )
    third_day = PeriodUsage(1, OTHER.agent_id, "demo/parrot", 1, 2, 0, 0, 0, 2 * day, 2 * day)
    bounds = (day, 2 * day, 3 * day)
    assert await store.usage(UsageQuery(bounds)) == (*second_day, third_day)
    assert await store.usage(UsageQuery(bounds[:2])) == second_day
    assert await store.usage(UsageQuery(bounds, key=OTHER)) == (third_day,)
    assert await store.usage(UsageQuery(bounds, agent_id="nobody")) == ()
    assert await store.usage(UsageQuery(bounds, agent_id="main"))
    assert len(await store.usage(UsageQuery((0.0, *bounds)))) == 4
    assert await store.usage(UsageQuery((3 * day, inf))) == ()


async def test_absurd_token_counts_do_not_spoil_the_sums(store: Store) -> None:
    for n in range(3):
        await store.append(make_turn(f"r{n}", usage=Usage(2**63, 1)))
    info = await store.find(KEY)
    assert info is not None
    assert info.input_tokens >= 2**62
    (used,) = await store.usage(ALL)
    assert (used.input >= 2**62, used.output) == (True, 3)


@pytest.mark.parametrize("way", ["patch", "reset", "compact"])
async def test_a_one_off_session_that_somebody_changes_lasts(store: Store, way: str) -> None:
    await store.append(make_turn("r1", at=1.0, one_off=True))
    match way:
        case "patch":
            await store.patch(KEY, {"label": "keep"}, at=1.0, new_id="new")
        case "reset":
            await store.reset(KEY, at=1.0, new_id="new")
        case _:
            await store.compact(KEY, 0, at=1.0, new_id="new")
    assert await store.prune_one_off(-1.0) == 0
    info = await store.find(KEY)
    assert info is not None
    assert not info.one_off


async def test_a_late_turn_makes_a_one_off_session_last_too(store: Store) -> None:
    await store.append(make_turn("r1", session_id="a", at=1.0, one_off=True))
    await store.append(make_turn("r2", session_id="b", at=1.0, one_off=True))
    await store.append(make_turn("r3", session_id="a", at=1.0))
    assert await store.prune_one_off(-1.0) == 0


async def test_a_catalog_that_is_not_open_refuses_everything(closed_store: Store) -> None:
    store = closed_store
    for call in (
        store.turn("r1"),
        store.list(SessionQuery()),
        store.find(KEY),
        store.find_by_id("first"),
        store.patch(KEY, {}, at=1.0, new_id="new"),
        store.reset(KEY, at=1.0, new_id="new"),
        store.compact(KEY, 1, at=1.0, new_id="new"),
        store.delete(KEY),
        store.messages(KEY, limit=1),
        store.transcripts(KEY, 1),
        store.usage(ALL),
    ):
        with pytest.raises(StoreFailed, match="is not open"):
            await call
