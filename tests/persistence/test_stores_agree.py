"""The stores in databases do what the plain one does, whatever is said in whatever order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.messages import Role, text_message
from opensoul.domain.ports import SessionStore, Turn
from opensoul.domain.sessions.keys import SessionKey
from tests.examples import examples

from .postgres_server import delete_rows
from .postgres_stores import postgres_store
from .run_logs import HandClock

KEYS = [SessionKey("main", "a"), SessionKey("beta", "a")]
TURNS = st.builds(
    Turn,
    key=st.sampled_from(KEYS),
    session_id=st.sampled_from(["s1", "s2"]),
    run_id=st.integers(0, 30).map(str),
    at=st.floats(0, 1_000),
    messages=st.lists(
        st.builds(text_message, st.sampled_from(Role), st.text(max_size=40)), max_size=4
    ).map(tuple),
    one_off=st.booleans(),
)


@settings(max_examples=examples(40), deadline=None)
@given(turns=st.lists(TURNS, max_size=12), budget=st.integers(0, 150), keep=st.integers(-1, 14))
def test_sqlite_agrees_with_memory(turns: list[Turn], budget: int, keep: int) -> None:
    steady = HandClock()
    with TemporaryDirectory() as directory:
        store = SqliteStore(Path(directory) / "sessions.sqlite3", steady=steady)
        asyncio.run(compare(store, steady, turns, budget, keep))


@settings(max_examples=examples(15), deadline=None)
@given(turns=st.lists(TURNS, max_size=12), budget=st.integers(0, 150), keep=st.integers(-1, 14))
def test_postgresql_agrees_with_memory(
    shared_postgres: str, turns: list[Turn], budget: int, keep: int
) -> None:
    steady = HandClock()
    try:
        asyncio.run(compare(postgres_store(shared_postgres, steady), steady, turns, budget, keep))
    finally:
        delete_rows(shared_postgres)


async def compare(
    store: SessionStore, steady: HandClock, turns: list[Turn], budget: int, keep: int
) -> None:
    """Have the store and the plain one do the same and return the same."""
    stores = (MemoryStore(steady=steady), store)
    for one in stores:
        await one.open()
    for turn in turns:
        steady.now += 1.0
        for one in stores:
            await one.append(turn)
        # Read in between, with more and with less: what is kept in memory must agree too.
        for allowed in (budget // 2, budget):
            plain, other = [await one.load(turn.key, allowed) for one in stores]
            assert plain == other
    for _ in range(2):
        for key in KEYS:
            plain, other = [await one.load(key, budget) for one in stores]
            assert plain == other
        pruned = [await one.prune_one_off(keep) for one in stores]
        assert pruned[0] == pruned[1]
    for one in stores:
        await one.close()
