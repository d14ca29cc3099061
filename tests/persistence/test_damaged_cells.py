"""One damaged cell in a real file: everything else is listed, read and changed as before."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from opensoul.adapters.persistence.common.damage import UNREADABLE
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.errors import SendBlocked, StoreFailed
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.policy import SendPolicy, check_send
from opensoul.domain.sessions.records import SessionInfo, SessionQuery, UsageQuery

from .building import answer, make_turn, question

DAMAGED, SOUND = SessionKey("main", "damaged"), SessionKey("main", "sound")
NOT_UTF8 = "CAST(x'ff' AS TEXT)"
LOGGED = "a stored cell is damaged and left out"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite3"


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, working_set=0)
    await store.open()
    for key in (DAMAGED, SOUND):
        await store.append(
            make_turn(f"run-{key.rest}", question(), answer(), key=key, session_id=key.rest)
        )
        changes = {"label": f"label {key.rest}", "thinkingLevel": "high"}
        await store.patch(key, changes, at=1.0, new_id="unused")
    yield store
    await store.close()


def damage(path: Path, table: str, assignment: str) -> None:
    where = {
        "sessions": "key = 'agent:main:damaged'",
        "transcripts": "session_id = 'damaged'",
        "turns": "run_id = 'run-damaged'",
        "messages": "transcript = (SELECT id FROM transcripts WHERE session_id = 'damaged')"
        " AND number = 1",
    }
    with closing(sqlite3.connect(path)) as connection:
        statement = f"UPDATE {table} SET {assignment} WHERE {where[table]}"  # noqa: S608
        changed = connection.execute(statement)
        assert changed.rowcount == 1
        connection.commit()


async def listed(store: SqliteStore, **query: Any) -> dict[str, SessionInfo]:
    page = await store.list(SessionQuery(**query))
    assert page.total == len(page.sessions)
    return {info.key.rest: info for info in page.sessions}


CELLS = [
    ("sessions", "settings = x'7b226c'"),
    ("sessions", "settings = x'ff00'"),
    ("sessions", "settings = '[1, 2]'"),
    ("sessions", 'settings = \'{"label": {"of": "another kind"}}\''),
    ("sessions", "settings = 17"),
    ("sessions", f"settings = {NOT_UTF8}"),
    ("sessions", f"settings = x'{'5b' * 100_000}'"),
    ("sessions", f"label = {NOT_UTF8}"),
    ("sessions", "label = x'ff'"),
    ("sessions", "model = x'ff'"),
    ("sessions", f"model = {NOT_UTF8}"),
    ("sessions", "created_at = 'yesterday'"),
    ("sessions", "updated_at = 'yesterday'"),
    ("sessions", "updated_at = 9e999"),
    ("sessions", "updated_at = x'00'"),
    ("transcripts", "input_tokens = 'many'"),
    ("transcripts", "output_tokens = 1e300"),
    ("transcripts", "created_at = 'yesterday'"),
    ("turns", "at = 9e999"),
    ("turns", "at = 'yesterday'"),
    ("turns", "model = x'ff'"),
    ("turns", "input_tokens = 'many'"),
    ("messages", "body = x'7b'"),
    ("messages", "body = 'no JSON'"),
    ("messages", "body = 5"),
    ("messages", f"body = {NOT_UTF8}"),
    ("messages", 'body = \'{"role": "user", "parts": [{"t": "smell"}]}\''),
]


@pytest.mark.parametrize(("table", "assignment"), CELLS)
async def test_a_damaged_cell_spoils_nothing_but_itself(
    store: SqliteStore, path: Path, table: str, assignment: str
) -> None:
    before = (await listed(store))["sound"]
    damage(path, table, assignment)

    assert set(sessions := await listed(store)) == {"damaged", "sound"}
    assert sessions["sound"] == before
    assert sessions["damaged"].message_count == 2
    assert set(await listed(store, search="SOUND")) == {"sound"}
    assert await store.find(SOUND) == before
    assert await store.find(DAMAGED) == sessions["damaged"]
    assert await store.find_by_id("sound") == (before,)
    days = await store.usage(UsageQuery((0.0, 4e9)))
    assert sum(day.turns for day in days) in (1, 2)
    for key in (SOUND, DAMAGED):
        kept = await store.messages(key, limit=10)
        assert [one.message.role.value for one in kept] == ["user", "assistant"]
        (transcript,) = await store.transcripts(key, 10)
        assert transcript.first_question
        loaded = await store.load(key, 1_000_000)
        assert loaded is not None
        assert len(loaded.tail.messages) == 2
    await store.check()


NO_COUNTS = ["'many'", "x'ff00'", "9e99", str(2**63 - 1)]
COUNTS = [
    *[("transcripts", f"message_count = {damaged}") for damaged in NO_COUNTS],
    *[("transcripts", f"turn_count = {damaged}") for damaged in NO_COUNTS],
    *[("turns", f"first_message = {damaged}") for damaged in NO_COUNTS],
    *[("turns", f"message_count = {damaged}") for damaged in NO_COUNTS],
    *[("messages", f"tokens = {damaged}") for damaged in NO_COUNTS[:2]],
    ("turns", f"model = {NOT_UTF8}"),
]


@pytest.mark.parametrize(("table", "assignment"), COUNTS)
async def test_a_damaged_count_loses_no_message_and_no_later_turn(
    store: SqliteStore, path: Path, table: str, assignment: str
) -> None:
    damage(path, table, assignment)

    assert [one.number for one in await store.messages(DAMAGED, limit=10)] == [1, 2]
    assert await store.transcripts(DAMAGED, 10)
    if table == "turns":
        with pytest.raises(StoreFailed, match=r"does not say which messages|not UTF-8"):
            await store.turn("run-damaged")
    assert await store.usage(UsageQuery((0.0, 4e9)))
    later = make_turn("later", question(), answer(), key=DAMAGED, session_id="damaged")
    last = make_turn("last", question(), answer(), key=DAMAGED, session_id="damaged")
    await asyncio.gather(store.append(later), store.append(last))

    kept = await store.messages(DAMAGED, limit=10)
    assert [one.number for one in kept] == [1, 2, 3, 4, 5, 6]
    loaded = await store.load(DAMAGED, 1_000_000)
    assert loaded is not None
    assert len(loaded.tail.messages) == 6


async def test_a_damaged_transcript_id_is_listed_and_shown(store: SqliteStore, path: Path) -> None:
    damage(path, "transcripts", "session_id = x'ff'")

    assert set(await listed(store)) == {"damaged", "sound"}
    assert len(await store.messages(DAMAGED, limit=10)) == 2
    assert len(await store.transcripts(DAMAGED, 10)) == 1
    assert (await store.reset(DAMAGED, at=9.0, new_id="new")).session_id == "new"


async def test_damage_is_logged_once_with_its_place(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(path, "sessions", "settings = x'7b'")
    damage(path, "messages", "body = x'7b'")
    for _ in range(3):
        await listed(store)
        await store.messages(DAMAGED, limit=10)

    assert caplog.messages == [LOGGED, LOGGED]
    cells = [(r.__dict__["place"], r.__dict__["cell"]) for r in caplog.records]
    assert cells == [("agent:main:damaged", "settings"), ("agent:main:damaged", "message 1")]


async def test_the_readable_settings_of_a_damaged_cell_stay(store: SqliteStore, path: Path) -> None:
    damage(path, "sessions", """settings = '{"label": "mine", "thinkingLevel": [], "n": 1.5}'""")

    assert (await listed(store))["damaged"].settings == {"label": "mine"}


@pytest.mark.parametrize(
    "cell",
    ["x'7b'", "x'ff00'", "'[1, 2]'", "17", "'{\"sendPolicy\": []}'", f"x'{'5b' * 100_000}'"],
)
async def test_a_lost_send_policy_denies_until_it_is_set_anew(
    store: SqliteStore, path: Path, cell: str
) -> None:
    damage(path, "sessions", f"settings = {cell}")
    unread = {"unread": False}  # As programs send it by themselves for a session that is looked at.
    for changes in ({}, unread):
        if changes:
            await store.patch(DAMAGED, changes, at=2.0, new_id="unused")
        info, loaded = await store.find(DAMAGED), await store.load(DAMAGED, 1_000)
        assert info is not None
        assert loaded is not None
        for settings in (info.settings, loaded.settings, (await listed(store))["damaged"].settings):
            with pytest.raises(SendBlocked, match=r"cannot be read .*sessions\.patch"):
                check_send(DAMAGED, SendPolicy(), settings.get("sendPolicy"))

    await store.patch(DAMAGED, {"sendPolicy": None}, at=3.0, new_id="unused")
    mended = await store.load(DAMAGED, 1_000)
    assert mended is not None
    check_send(DAMAGED, SendPolicy(), mended.settings.get("sendPolicy"))


async def test_a_change_of_settings_mends_the_row(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(path, "sessions", "settings = x'7b'")
    await store.patch(DAMAGED, {"label": "new"}, at=2.0, new_id="unused")
    caplog.clear()

    again = SqliteStore(path)
    await again.open()
    try:
        settings = (await listed(again, label="new"))["damaged"].settings
        assert settings == {"label": "new", "sendPolicy": "unreadable"}
    finally:
        await again.close()
    assert not caplog.messages


async def test_a_damaged_message_is_shown_as_such_and_sent_as_such(
    store: SqliteStore, path: Path
) -> None:
    damage(path, "messages", "body = x'7b'")

    kept = await store.messages(DAMAGED, limit=10)
    loaded = await store.load(DAMAGED, 1_000_000)

    assert loaded is not None
    assert [one.message.text for one in kept] == [UNREADABLE, answer().text]
    assert loaded.tail.messages == tuple(one.message for one in kept)
