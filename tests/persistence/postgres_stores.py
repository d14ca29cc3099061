"""Stores in PostgreSQL for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opensoul.adapters.persistence.postgres import Database
from opensoul.adapters.persistence.postgres.sessions import PostgresStore
from opensoul.domain.ports import Clock


def postgres_store(url: str, clock: Clock | None = None) -> PostgresStore:
    """With few connections: tests open many stores."""
    return PostgresStore(Database(url, connections=(1, 4)), clock=clock)


@asynccontextmanager
async def opened_database(url: str) -> AsyncIterator[Database]:
    database = Database(url, connections=(1, 4))
    await database.open()
    try:
        yield database
    finally:
        await database.close()
