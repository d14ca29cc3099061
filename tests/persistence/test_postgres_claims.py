"""What two nodes find free at the same moment, one of them gets: a session, a label."""

from __future__ import annotations

import asyncio
from itertools import count

from opensoul.domain.access import Principal, Scope
from opensoul.domain.errors import Forbidden, InvalidRequest
from opensoul.domain.services.ownership import SessionClaims
from opensoul.domain.sessions import OWNER, SessionKey, SessionQuery
from tests.persistence.postgres_stores import postgres_store

SCOPES = frozenset({Scope.READ, Scope.WRITE})
PEOPLE = [Principal(name, SCOPES, "proxy", agents=frozenset({"main"})) for name in ("ada", "bob")]


async def test_of_two_principals_who_begin_a_session_at_two_nodes_one_is_its_owner(
    emptied_postgres: str,
) -> None:
    stores = [postgres_store(emptied_postgres) for _ in PEOPLE]
    for store in stores:
        await store.open()
    numbers = count()
    claims = [
        SessionClaims(store, lambda: 1.0, lambda: f"transcript-{next(numbers)}") for store in stores
    ]
    try:
        for number in range(30):
            key = SessionKey("main", f"talk-{number}")
            outcomes = await asyncio.gather(
                *(one.claim(person, key) for one, person in zip(claims, PEOPLE, strict=True)),
                return_exceptions=True,
            )
            owner, refused = (
                (PEOPLE[0], outcomes[1]) if outcomes[0] is None else (PEOPLE[1], outcomes[0])
            )
            assert isinstance(refused, Forbidden)
            info = await stores[0].find(key)
            assert info is not None
            assert info.settings[OWNER] == owner.id
            await claims[0 if owner is PEOPLE[0] else 1].claim(owner, key)
    finally:
        for store in stores:
            await store.close()


async def test_of_two_sessions_that_get_one_label_at_two_nodes_one_has_it(
    emptied_postgres: str,
) -> None:
    stores = [postgres_store(emptied_postgres) for _ in range(2)]
    for store in stores:
        await store.open()
    try:
        for number in range(20):
            keys = [SessionKey("main", f"{name}-{number}") for name in ("a", "b")]
            label = f"label {number}"
            outcomes = await asyncio.gather(
                *(
                    store.patch(key, {"label": label}, at=1.0, new_id=f"of {key}")
                    for store, key in zip(stores, keys, strict=True)
                ),
                return_exceptions=True,
            )
            (refused,) = [one for one in outcomes if isinstance(one, BaseException)]
            assert isinstance(refused, InvalidRequest)
            page = await stores[0].list(SessionQuery(label=label))
            (labelled,) = page.sessions
            await stores[1].patch(labelled.key, {"label": label}, at=2.0, new_id="unused")
    finally:
        for store in stores:
            await store.close()
