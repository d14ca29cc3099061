"""What SQLite holds in memory after large turns, as it says itself."""

from __future__ import annotations

import _sqlite3
import asyncio
import ctypes
from pathlib import Path

import pytest

from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.sessions.keys import SessionKey
from tests.persistence.building import KEY, answer, make_turn, question

MEGABYTE = 1_000_000


def used_by_sqlite() -> int:
    """Bytes, of all connections."""
    try:
        function = ctypes.CDLL(_sqlite3.__file__).sqlite3_memory_used
    except (AttributeError, OSError):
        pytest.skip("SQLite cannot be asked here")
    function.restype = ctypes.c_int64
    return int(function())


@pytest.mark.parametrize("together", [1, 7])
async def test_no_statement_keeps_a_large_turn(tmp_path: Path, together: int) -> None:
    store = SqliteStore(tmp_path / "sessions.sqlite3")
    await store.open()
    await store.append(make_turn("first"))
    before = used_by_sqlite()
    keys = [SessionKey("main", f"caller-{n}") for n in range(together)]

    await asyncio.gather(
        *(
            store.append(
                make_turn(f"run-{key.rest}", question("x" * 3 * MEGABYTE), answer(), key=key)
            )
            for key in keys
        )
    )

    # The cache of pages may grow to 2 MB.
    assert used_by_sqlite() - before < 2.5 * MEGABYTE
    for key in keys:
        session = await store.load(key, 10 * MEGABYTE)
        assert session is not None
        assert [len(message.text) for message in session.tail.messages] == [3 * MEGABYTE, 8]
    assert (await store.load(KEY, 10 * MEGABYTE)) is not None
    await store.close()
