"""Stores in PostgreSQL for tests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opensoul.adapters.persistence.postgres import Database
from opensoul.adapters.persistence.postgres.sessions import PostgresStore
from opensoul.domain.ports import Clock

from .pooler import server_of


def postgres_store(url: str, clock: Clock | None = None) -> PostgresStore:
    """With few connections: tests open many stores."""
    return PostgresStore(few_connections(url), clock=clock)


def few_connections(url: str, patience: float = 5.0, steady: Clock = time.monotonic) -> Database:
    behind_pooler = bool(server_of(url))
    return Database(
        url, connections=(1, 4), patience=patience, behind_pooler=behind_pooler, steady=steady
    )


@asynccontextmanager
async def opened_database(url: str) -> AsyncIterator[Database]:
    database = few_connections(url)
    await database.open()
    try:
        yield database
    finally:
        await database.close()
