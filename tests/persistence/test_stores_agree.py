"""The SQLite store does what the plain one does, whatever is said in whatever order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.messages import Role, text_message
from opensoul.domain.ports import Turn
from opensoul.domain.sessions.keys import SessionKey
from tests.examples import examples

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
def test_both_stores_tell_the_same(turns: list[Turn], budget: int, keep: int) -> None:
    async def tell(directory: str) -> None:
        steady = HandClock()
        path = Path(directory) / "sessions.sqlite3"
        stores = (MemoryStore(steady=steady), SqliteStore(path, steady=steady))
        for store in stores:
            await store.open()
        for turn in turns:
            steady.now += 1.0
            for store in stores:
                await store.append(turn)
            # Read in between, with more and with less: what is kept in memory must agree too.
            for allowed in (budget // 2, budget):
                plain, sqlite = [await store.load(turn.key, allowed) for store in stores]
                assert plain == sqlite
        for _ in range(2):
            for key in KEYS:
                plain, sqlite = [await store.load(key, budget) for store in stores]
                assert plain == sqlite
            pruned = [await store.prune_one_off(keep) for store in stores]
            assert pruned[0] == pruned[1]
        for store in stores:
            await store.close()

    with TemporaryDirectory() as directory:
        asyncio.run(tell(directory))
