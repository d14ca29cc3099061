"""What the durable run log has on the disk, and what it tells of it after a restart."""

from __future__ import annotations

import asyncio
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from opensoul.domain.errors import EventsExpired, UnknownRun
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.runs.events import Aborted, Started
from opensoul.domain.runs.records import RunStatus

from .run_logs import (
    END,
    FILE,
    FORGETFUL,
    listed,
    names_in,
    numbered,
    record,
    rows,
    started,
    tell,
    texts,
    told,
    told_kept,
    until,
    words,
)


async def test_a_run_is_told_after_a_restart(tmp_path: Path) -> None:
    said = [Started(0.0, 0.0), *words(*"abc"), END]
    async with started(tmp_path) as log:
        tell(log, "r", *said)
    async with started(tmp_path) as log:
        assert await told_kept(log) == numbered(said)
        assert await told_kept(log, after=3) == numbered(said)[3:]
        assert await told_kept(log, after=5) == await told_kept(log, after=99) == []
        with pytest.raises(UnknownRun):
            log.follow("r")
        assert await log.unfinished() == ()
        ended = await log.find("r")
        assert ended is not None
        assert (ended.status, ended.last_seq, ended.ended_at) == (RunStatus.FINISHED, 5, 1_000.0)
        assert await log.reserve(record("r")) == ended


async def test_an_event_is_told_only_once_it_is_in_the_file(tmp_path: Path) -> None:
    async with started(tmp_path, interval=3_600.0) as log:
        tell(log, "r", *words("a"))
        events = log.follow_kept("r")
        for n in range(1, 50):
            told = await anext(events)
            assert (told.first, told.last) == (n, n)
            newest = rows(tmp_path / FILE, "SELECT max(last_seq) FROM events")
            assert newest == [(n,)]
            log.put("r", TextDelta("b"))


async def test_nobody_waits_and_yet_all_is_kept_in_a_while(tmp_path: Path) -> None:
    async with started(tmp_path, interval=0.01) as log:
        tell(log, "r", *words("a", "b"))
        await until(tmp_path / FILE, "SELECT max(last_seq) FROM events", lambda last: last == 2)
        tell(log, "s", END)
        await until(tmp_path / FILE, "SELECT max(ended_at) FROM runs", lambda at: at == 1_000.0)


async def test_events_of_a_moment_share_a_row(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        tell(log, "r", *words(*"abcdefgh"), END)
    assert rows(tmp_path / FILE, "SELECT count(*), max(last_seq) FROM events") == [(1, 9)]


async def test_what_memory_gave_up_before_it_was_kept_is_not_lost(tmp_path: Path) -> None:
    async with started(tmp_path, bounds=FORGETFUL) as log:
        tell(log, "r", *words("a"), END)
        found = await log.find("r")
        assert found is not None
        assert found.status is RunStatus.FINISHED
        assert await listed(log) == ["r"]
        assert [event.seq for event in await told_kept(log)] == [1, 2]
        assert [event.seq for event in await told_kept(log)] == [1, 2]
        assert await log.reserve(record("r")) == found


async def test_a_long_run_is_told_from_the_file_and_then_live(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        tell(log, "r", *words(*"abc"))
        await told_kept(log, until=3)
    async with started(tmp_path) as log:
        (left,) = await log.unfinished()
        assert (left.id, left.last_seq, left.status) == ("r", 3, RunStatus.QUEUED)
        with pytest.raises(ValueError, match="'r' has a log already"):
            log.open(record("r"))
        with pytest.raises(EventsExpired, match="oldest kept one is 4"):
            await told(log)
        following = asyncio.create_task(told_kept(log))
        events = log.follow_kept("r", 2)
        assert [event.seq for event in await anext(events)] == [3]
        assert log.put("r", TextDelta("d")) == 4
        assert [event.seq for event in await anext(events)] == [4]
        assert log.put("r", END) == 5
        assert await log.unfinished() == ()
        assert [event.seq for event in await following] == [1, 2, 3, 4, 5]
        assert texts(await following) == "abcd"
    async with started(tmp_path) as log:
        assert await log.unfinished() == ()
        assert texts(await told_kept(log)) == "abcd"


async def test_not_very_much_is_told_at_once_from_the_file(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        tell(log, "r", *words(*["x"] * 1_000), END)
        tell(log, "s")
        for _ in range(300):
            await anext(log.follow_kept("s", log.put("s", TextDelta("x")) - 1))  # A row each.
    async with started(tmp_path) as log:
        for run_id, last in (("r", 1_001), ("s", 300)):
            seq = 0
            async for span in log.follow_kept(run_id):
                assert span.first == seq + 1
                assert len(span.events) <= 256
                seq = span.last
                if seq == last:
                    break


async def test_a_reader_of_the_file_that_gives_up_and_asks_again_misses_nothing(
    tmp_path: Path,
) -> None:
    async with started(tmp_path) as log:
        tell(log, "r", *words(*["x" * 10_000] * 200), END)
    async with started(tmp_path) as log:
        events, seqs = log.follow_kept("r"), list[int]()
        for n in range(30):
            waiting = asyncio.ensure_future(anext(events))
            for _ in range(n % 4):
                await asyncio.sleep(0)
            waiting.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                seqs += [event.seq for event in await waiting]
        async for span in events:
            seqs += [event.seq for event in span]
        assert seqs == list(range(1, 202))


async def test_a_reservation_outlives_the_process_and_is_unfinished(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        assert await log.reserve(record("r", fingerprint="f")) is None
    async with started(tmp_path) as log:
        assert await log.unfinished() == (record("r", fingerprint="f"),)
        assert await log.reserve(record("r")) == record("r", fingerprint="f")
        await log.release("r")
        log.put("r", Aborted("it never began"))
        ended = await log.find("r")
        assert ended is not None
        assert ended.status is RunStatus.ABORTED
    async with started(tmp_path) as log:
        assert await log.reserve(record("r")) == ended
        assert [event.seq for event in await told_kept(log)] == [1]


async def test_a_released_reservation_does_not_come_back(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        await log.reserve(record("r"))
        await log.release("r")
        await log.reserve(record("s"))
        log.open(record("s"))
        log.put("s", END)
    async with started(tmp_path) as log:
        assert await log.unfinished() == ()
        assert await listed(log) == ["s"]
        assert await log.reserve(record("r")) is None


async def test_who_stops_waiting_for_a_reservation_leaves_the_id_free(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        first = asyncio.create_task(log.reserve(record("r", fingerprint="1")))
        await asyncio.sleep(0)
        others = [asyncio.create_task(log.reserve(record("r", fingerprint=str(n)))) for n in (2, 3)]
        await asyncio.sleep(0)
        first.cancel()
        answers = await asyncio.gather(*others)
        assert answers == [None, record("r", fingerprint="2")]
        assert first.cancelled()
    assert rows(tmp_path / FILE, "SELECT fingerprint FROM runs") == [("2",)]


async def test_the_file_is_its_owners_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / FILE
    async with started(tmp_path) as log:
        tell(log, "r", END)
        await told_kept(log)
        names = names_in(tmp_path)
        assert names == [FILE, f"{FILE}-shm", f"{FILE}-wal"]
        assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {0o600}
    assert names_in(tmp_path) == [FILE]
    assert rows(path, "PRAGMA application_id") == [(0x4F53_524C,)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
