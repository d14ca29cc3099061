"""A store without a catalog serves runs, and says of everything else why it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensoul.adapters.persistence.common.no_catalog import NoCatalog
from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.app.factories import catalog
from opensoul.domain.errors import Unavailable
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.records import SessionQuery, UsageQuery

KEY = SessionKey("main", "trip")


def test_a_store_that_can_tell_what_it_holds_is_its_own_catalog(tmp_path: Path) -> None:
    from examples.json_lines_store import JsonLinesStore

    store = MemoryStore()

    assert catalog(store) is store
    assert isinstance(catalog(JsonLinesStore(tmp_path)), NoCatalog)


async def test_there_is_nothing_to_be_seen() -> None:
    nothing = NoCatalog()

    assert (await nothing.list(SessionQuery())).total == 0
    assert await nothing.find(KEY) is None
    assert await nothing.find_by_id("x") == ()
    assert await nothing.turn("x") is None
    assert await nothing.messages(KEY, limit=1) == ()
    assert await nothing.transcripts(KEY, 1) == ()
    assert await nothing.usage(UsageQuery((0.0, 1.0))) == ()


async def test_nothing_can_be_changed() -> None:
    nothing = NoCatalog()

    for changing in (
        nothing.patch(KEY, {}, at=0, new_id="x"),
        nothing.reset(KEY, at=0, new_id="x"),
        nothing.compact(KEY, 1, at=0, new_id="x"),
        nothing.delete(KEY),
    ):
        with pytest.raises(Unavailable, match="keeps no catalog"):
            await changing
