"""Whatever is done to sessions, the stores in databases return what the plain one does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.messages import Image, Message, Role, Text
from opensoul.domain.models.calls import Usage
from opensoul.domain.ports import SessionCatalog, SessionStore, Turn
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.records import SessionQuery, UsageQuery
from tests.examples import examples

from .postgres_server import delete_rows
from .postgres_stores import postgres_store


class Store(SessionStore, SessionCatalog, Protocol):
    pass


Do = Callable[[Store], Awaitable[object]]

KEYS = [SessionKey("main", "a"), SessionKey("main", "b"), SessionKey("beta", "a")]
IDS = ["s1", "s2", "s3"]
RUNS = [str(n) for n in range(40)]
BUDGETS = (0, 20, 60, 3_000)
QUERIES = [
    SessionQuery(),
    SessionQuery(limit=1, offset=1),
    SessionQuery(agent_id="main", updated_after=300.0),
    SessionQuery(label="x"),
    SessionQuery(spawned_by="x", search="S2"),
    SessionQuery(search="A"),
]
USAGE = [
    UsageQuery((0.0, inf)),
    UsageQuery((500.0, 600.0, 1_000.0), agent_id="main"),
    UsageQuery((0.0, 500.0), key=KEYS[1]),
]
keys, ids, times = st.sampled_from(KEYS), st.sampled_from(IDS), st.floats(0, 1_000)
messages = st.builds(
    Message,
    st.sampled_from(Role),
    st.one_of(st.builds(Text, st.text(max_size=40)), st.just(Image("aGk=", "image/png"))).map(
        lambda part: (part,)
    ),
)
turns = st.builds(
    Turn,
    key=keys,
    session_id=ids,
    run_id=st.sampled_from(RUNS),
    at=times,
    messages=st.lists(messages, max_size=4).map(tuple),
    model=st.sampled_from(["demo/owl", "demo/parrot"]),
    usage=st.none() | st.builds(Usage, st.integers(0, 9), st.integers(0, 9)),
    one_off=st.booleans(),
)
changes = st.dictionaries(
    st.sampled_from(["label", "spawnedBy", "pinned"]), st.sampled_from(["x", "y", 1, True, None])
)


def _append(turn: Turn) -> Do:
    return lambda store: store.append(turn)


def _load(key: SessionKey, budget: int) -> Do:
    return lambda store: store.load(key, budget)


def _patch(key: SessionKey, changes: dict[str, str | bool | int | None], at: float, id_: str) -> Do:
    return lambda store: store.patch(key, changes, at=at, new_id=id_)


def _reset(key: SessionKey, at: float, id_: str) -> Do:
    return lambda store: store.reset(key, at=at, new_id=id_)


def _compact(key: SessionKey, keep: int, at: float, id_: str) -> Do:
    return lambda store: store.compact(key, keep, at=at, new_id=id_)


def _delete(key: SessionKey) -> Do:
    return lambda store: store.delete(key)


writes = st.one_of(
    st.builds(_append, turns),
    st.builds(_append, turns),
    st.builds(_patch, keys, changes, times, ids),
    st.builds(_reset, keys, times, ids),
    st.builds(_compact, keys, st.integers(0, 6), times, ids),
    st.builds(_delete, keys),
)
loads = st.builds(_load, keys, st.sampled_from(BUDGETS))


async def _everything(store: Store) -> list[object]:
    told: list[object] = [await store.list(query) for query in QUERIES]
    for key in KEYS:
        told += [await store.load(key, budget) for budget in BUDGETS]
        told += [await store.find(key), await store.transcripts(key, 9)]
        told += [await store.messages(key, limit=9), await store.messages(key, limit=2, before=3)]
        told += [await store.messages(key, limit=9, session_id=id_) for id_ in IDS]
    told += [await store.find_by_id(id_) for id_ in IDS]
    told += [await store.turn(run_id) for run_id in RUNS]
    return [*told, *[await store.usage(query) for query in USAGE]]


class Agree(RuleBasedStateMachine):
    """A store and the plain one, to which the same is done."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._plain = MemoryStore()
        self._store = store
        self._runner.run(self._plain.open())
        self._runner.run(self._store.open())

    @rule(work=st.lists(writes | loads, min_size=1, max_size=6))
    def one_after_the_other(self, work: Sequence[Do]) -> None:
        async def done() -> None:
            for do in work:
                assert await do(self._store) == await do(self._plain)

        self._runner.run(done())
        self._agree()

    @rule(keep=st.sampled_from([None, 3_600.0, -3_600.0]))
    def prune(self, keep: float | None) -> None:
        pruned = self._runner.run(self._store.prune_one_off(keep))
        assert pruned == self._runner.run(self._plain.prune_one_off(keep))
        self._agree()

    def teardown(self) -> None:
        self._runner.run(self._store.close())
        self._runner.close()

    def _agree(self) -> None:
        told = self._runner.run(_everything(self._store))
        assert told == self._runner.run(_everything(self._plain))


class SqliteAgrees(Agree):
    def __init__(self) -> None:
        self._directory = TemporaryDirectory()
        super().__init__(SqliteStore(Path(self._directory.name) / "sessions.sqlite3"))

    @rule(work=st.lists(writes | loads | loads, min_size=2, max_size=8))
    def all_at_once(self, work: Sequence[Do]) -> None:
        """Loads may return any moment on the way; what they leave behind may not."""

        async def done() -> None:
            await asyncio.gather(*(do(self._store) for do in work))
            for do in work:
                await do(self._plain)

        self._runner.run(done())
        self._agree()

    @rule()
    def restart(self) -> None:
        self._runner.run(self._store.close())
        self._runner.run(self._store.open())

    def teardown(self) -> None:
        super().teardown()
        self._directory.cleanup()


class PostgresAgrees(Agree):
    """Without writes at the same time: those of several connections have no order."""

    def __init__(self, url: str) -> None:
        self._url = url
        super().__init__(postgres_store(url))

    def teardown(self) -> None:
        super().teardown()
        delete_rows(self._url)


def test_sqlite_agrees_with_memory() -> None:
    run_state_machine_as_test(SqliteAgrees, settings=_settings(15))


def test_postgresql_agrees_with_memory(shared_postgres: str) -> None:
    machine: Any = partial(PostgresAgrees, shared_postgres)
    run_state_machine_as_test(machine, settings=_settings(5))


def _settings(count: int) -> settings:
    return settings(
        max_examples=examples(count),
        stateful_step_count=12,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
