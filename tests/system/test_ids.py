"""Identifiers are unique, sortable and plain; the clock tells Unix time."""

from __future__ import annotations

import re
import time

from opensoul.adapters.system.ids import clock, new_id


def test_identifiers_are_plain_and_unique_and_sort_as_they_were_made() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"[0-9a-f-]{36}", one) for one in ids)


def test_an_identifier_tells_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = int(new_id().replace("-", "")[:12], 16)
    assert before - 1_000 <= made <= time.time_ns() // 1_000_000 + 1_000


def test_the_clock_tells_unix_time() -> None:
    before = time.time()
    assert before <= clock() <= time.time()
