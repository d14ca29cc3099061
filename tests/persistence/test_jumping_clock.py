"""The system's clock is set forward by years, or back: what is kept expires in its time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from opensoul.adapters.persistence.common.expiry_clock import ExpiryClock, Stamp
from opensoul.adapters.persistence.memory.run_events import MemoryRunEvents
from opensoul.adapters.persistence.sqlite.runs.run_events import SqliteRunEvents
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.sessions.keys import SessionKey

from .building import make_turn
from .run_logs import (
    END,
    FILE,
    FORGETFUL,
    HandClock,
    LocalRunEvents,
    record,
    tell,
    told_kept,
    until,
)

DAY = 86_400.0
YEARS = 10 * 365 * DAY
JUMPS = [YEARS, -YEARS, DAY, -DAY]


@dataclass
class Machine:
    """Its two clocks. (A start of the machine begins `steady` anew.)"""

    unix: HandClock = field(default_factory=lambda: HandClock(2_000_000_000.0))
    steady: HandClock = field(default_factory=HandClock)

    def passes(self, seconds: float) -> None:
        self.unix.now += seconds
        self.steady.now += seconds

    def run_log(self, directory: Path) -> SqliteRunEvents:
        path = directory / FILE
        return SqliteRunEvents(path, clock=self.unix, steady=self.steady, bounds=FORGETFUL)

    def store(self, directory: Path) -> SqliteStore:
        return SqliteStore(directory / "s.sqlite3", clock=self.unix, steady=self.steady)


@pytest.fixture
def machine() -> Machine:
    return Machine()


async def ended(log: LocalRunEvents, *run_ids: str) -> None:
    for run_id in run_ids:
        tell(log, run_id, END)
        await told_kept_of(log, run_id)


async def told_kept_of(log: LocalRunEvents, run_id: str) -> None:
    if isinstance(log, SqliteRunEvents):
        await told_kept(log, run_id)


async def is_known(log: SqliteRunEvents, run_id: str) -> bool:
    return await log.find(run_id) is not None


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("restart", [False, True])
async def test_an_idempotency_key_outlives_a_jump(
    tmp_path: Path, machine: Machine, jump: float, restart: bool
) -> None:
    log = machine.run_log(tmp_path)
    await log.start()
    await ended(log, "before")
    machine.unix.now += jump
    if restart:
        await log.close()
        machine.steady.now = 5.0
        log = machine.run_log(tmp_path)
        await log.start()
    machine.passes(120.0)
    await ended(log, "after")
    machine.passes(120.0)
    await ended(log, "later")
    for run_id in ("before", "after", "later"):
        assert (await log.reserve(record(run_id))) is not None
    # And it expires: a day of the machine's time later, wherever the clock is.
    machine.passes(DAY + 300.0)
    await ended(log, "last")
    count = "SELECT count(*) FROM runs"
    await until(tmp_path / FILE, count, lambda runs: runs == 1)
    assert [await is_known(log, run_id) for run_id in ("before", "after", "last")] == [
        False,
        False,
        True,
    ]
    await log.close()


@pytest.mark.parametrize("jump", JUMPS)
async def test_runs_in_memory_outlive_a_jump(machine: Machine, jump: float) -> None:
    log = MemoryRunEvents(clock=machine.unix, steady=machine.steady)
    tell(log, "r", END)
    machine.unix.now += jump
    tell(log, "s", END)
    machine.passes(50.0)
    assert await log.find("r") is not None
    machine.passes(20.0)
    assert await log.find("r") is await log.find("s") is None


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("restart", [False, True])
async def test_one_off_sessions_outlive_a_jump_and_expire_all_the_same(
    tmp_path: Path, machine: Machine, jump: float, restart: bool
) -> None:
    async def say(name: str) -> None:
        key = SessionKey("main", name)
        await store.append(make_turn(name, key=key, at=machine.unix(), one_off=True))

    store = machine.store(tmp_path)
    await store.open()
    await say("before")
    machine.unix.now += jump
    if restart:
        await store.close()
        machine.steady.now = 5.0
        store = machine.store(tmp_path)
        await store.open()
    assert await store.prune_one_off(7 * DAY) == 0
    machine.passes(DAY)
    await say("after")
    assert await store.prune_one_off(7 * DAY) == 0
    machine.passes(6 * DAY + 1.0)
    assert await store.prune_one_off(7 * DAY) == 1
    machine.passes(DAY)
    assert await store.prune_one_off(7 * DAY) == 1
    await store.close()


async def test_time_without_a_process_counts_up_to_half(tmp_path: Path, machine: Machine) -> None:
    store = machine.store(tmp_path)
    await store.open()
    await store.append(make_turn("r", at=machine.unix(), one_off=True))
    await store.close()
    for expected in (0, 0, 1):
        machine.unix.now += 30 * DAY
        store = machine.store(tmp_path)
        await store.open()
        assert await store.prune_one_off(7 * DAY) == expected
        machine.passes(10.0)
        await store.close()


def test_the_clock_never_goes_back_and_follows_no_jump() -> None:
    unix, steady = HandClock(), HandClock()
    clock = ExpiryClock(unix, steady)
    clock.begin(Stamp(expiry=500.0, unix=900.0))
    assert clock() == 500.0
    clock.count_away(60.0)
    clock.count_away(60.0)
    assert clock() == 560.0
    unix.now -= 10_000.0
    steady.now += 7.0
    assert clock() == 567.0
