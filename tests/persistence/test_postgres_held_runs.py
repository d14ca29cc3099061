"""What a process keeps in memory of the Runs that it holds."""

from __future__ import annotations

import time

from opensoul.adapters.persistence.postgres.runs.held import HeldRun, HeldRuns, Server
from opensoul.adapters.persistence.postgres.runs.rows import StoredRun
from opensoul.domain.models import TextDelta
from opensoul.domain.runs import Claim, record_of
from tests.fakes.domain import run

from .run_logs import END
from .workers import Hands


def held(runs: HeldRuns, attempt: int) -> HeldRun:
    spec = run()
    record = record_of(spec)
    stored = StoredRun(1, record, "running", None, 0, None, 0.0, None, 0, False, None, 0)
    claim = Claim(spec, "one", attempt, time.time() + 60)
    return runs.hold(stored, claim, Server("one", Hands()), since=0.0)


def test_an_end_that_is_stored_after_the_run_was_given_up_changes_nothing() -> None:
    runs = HeldRuns(clock=time.time)
    first = held(runs, 1)
    runs.append(first, [TextDelta("hello")])
    runs.lose(first)

    runs.end(first, END)

    assert runs.get("run-1") is None


def test_an_end_of_an_earlier_attempt_is_not_that_of_the_next_one() -> None:
    runs = HeldRuns(clock=time.time)
    first = held(runs, 1)
    second = held(runs, 2)

    runs.end(first, END)

    assert runs.get("run-1") is second
    assert not second.finished
