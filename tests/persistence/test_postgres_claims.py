"""A session that two principals begin at two nodes belongs to one of them."""

from __future__ import annotations

import asyncio
from itertools import count

from opensoul.domain.access import Principal, Scope
from opensoul.domain.errors import Forbidden
from opensoul.domain.services.ownership import SessionClaims
from opensoul.domain.sessions import OWNER, SessionKey
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
