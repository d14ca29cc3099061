"""What a RunQueue promises, over the RunEvents that each kind of store has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from opensoul.domain.errors import GatewayBusy, LeaseLost, SessionBusy, ShuttingDown
from opensoul.domain.messages import Role, text_message
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.ports import RunCounts
from opensoul.domain.runs.claims import ApprovalDecided, Claim, MessageInjected
from opensoul.domain.runs.events import Aborted, Resumed, Started
from opensoul.domain.runs.records import RunStatus
from opensoul.domain.runs.spec import OnLeave
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.settings import LaneSettings
from tests.fakes.domain import run

from .run_logs import END, HandClock, started, told_kept
from .run_queues import ASKS, BENCHES, LEASE, Bench, LocalBench, bench_of
from .workers import Hands


@pytest.fixture(params=BENCHES)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_of(request.param, tmp_path, request) as bench:
        yield bench


async def test_a_run_is_claimed_at_once_where_nothing_is_before_it(bench: Bench) -> None:
    claim = await bench.claimed()

    assert (claim.owner, claim.attempt, claim.lease_until) == ("me", 1, 1_000.0 + LEASE)
    record = await bench.record()
    assert (record.owner, record.attempt, record.lease_until) == ("me", 1, 1_000.0 + LEASE)
    assert record.status is RunStatus.QUEUED


async def test_runs_of_a_session_are_claimed_one_after_another(bench: Bench) -> None:
    first = await bench.claimed("run-1")
    await bench.queue.enqueue(run("run-2"))
    await bench.claimed("other", session="other")
    assert bench.taken == [("run-1", 1), ("other", 1)]

    await bench.move(5)
    await bench.queue.finish(first, END)

    await bench.hands.has(claims=3)
    assert bench.taken[-1] == ("run-2", 1)
    assert bench.hands.claims[-1].queued == 5
    assert (await bench.record()).status is RunStatus.FINISHED
    assert [event.event for event in await told_kept(bench.log, "run-1")] == [END]


async def test_runs_are_counted_by_what_they_wait_for(bench: Bench) -> None:
    bench.limits = LaneSettings(max_concurrent=1)
    first = await bench.claimed("run-1")
    await bench.queue.enqueue(run("run-2"))
    for number in range(2):
        key = SessionKey("main", f"other-{number}")
        await bench.queue.enqueue(run(f"other-{number}", session_key=key))
    assert await bench.queue.counts() == RunCounts(waiting=2, queued=1, running=1, paused=0)

    await bench.queue.wait(first, ASKS, signals_read=0)

    await bench.hands.has(claims=2)
    counts = await bench.queue.counts()
    assert (counts.running, counts.paused) == (1, 1)
    assert counts.waiting + counts.queued == 2


async def test_an_id_that_is_chosen_begins_one_run(bench: Bench) -> None:
    asking = [bench.queue.enqueue(run("K"), fingerprint="f", once=True) for _ in range(10)]
    answers = await asyncio.gather(*asking)

    assert sum(answer.fresh for answer in answers) == 1
    assert {answer.record.fingerprint for answer in answers} == {"f"}
    assert bench.taken == [("K", 1)]


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(
    ("limits", "session", "refusal"),
    [
        (LaneSettings(max_waiting=0), "talk", SessionBusy),
        (LaneSettings(max_concurrent=1, max_queued=0), "other", GatewayBusy),
    ],
)
async def test_a_refused_run_leaves_nothing_behind(
    bench: Bench, once: bool, limits: LaneSettings, session: str, refusal: type[Exception]
) -> None:
    first = await bench.claimed()
    bench.limits = limits
    refused = run("run-2", session_key=SessionKey("main", session))
    released: list[str] = []

    with pytest.raises(refusal):
        await bench.queue.enqueue(refused, once=once, on_release=lambda: released.append("early"))

    assert await bench.log.find("run-2") is None
    assert released == []
    await bench.queue.finish(first, END)
    assert (await bench.queue.enqueue(refused, once=once)).fresh


async def test_who_shuts_down_accepts_nothing(bench: Bench) -> None:
    bench.queue.refuse()

    with pytest.raises(ShuttingDown):
        await bench.queue.enqueue(run(), once=True)
    assert await bench.log.find("run-1") is None


async def test_a_run_is_released_once_when_it_ends(bench: Bench) -> None:
    released: list[str] = []
    await bench.queue.enqueue(run(), on_release=lambda: released.append("run-1"))
    assert released == []

    await bench.queue.finish(bench.hands.claims[0], END)

    assert released == ["run-1"]


# Leases


async def test_only_the_owner_appends(bench: Bench) -> None:
    claim = await bench.claimed()
    other = Claim(claim.spec, "other", 1, 0.0)
    earlier = Claim(claim.spec, "me", 0, 0.0)

    for stranger in (other, earlier):
        with pytest.raises(LeaseLost):
            await bench.log.append(stranger, [TextDelta("x")])
    assert await bench.log.append(claim, [Started(0, 0), TextDelta("h")]) == 2

    assert (await bench.record()).last_seq == 2


async def test_a_lease_that_is_renewed_does_not_expire(bench: Bench) -> None:
    claim = await bench.claimed()
    for _ in range(3):
        await bench.move(LEASE - 1)
        assert list(await bench.queue.renew("me", [claim])) == []
        await bench.look()

    assert bench.taken == [("run-1", 1)]
    assert (await bench.record()).lease_until == bench.clock.now + LEASE


async def test_a_lease_that_expires_is_another_owners(bench: Bench) -> None:
    claim, other = await bench.claimed(), Hands()
    await bench.log.append(claim, [Started(0, 0)])
    assert (await anext(bench.log.follow_kept("run-1"))).first == 1
    bench.queue.serve("other", other)
    await bench.expire()

    await other.has(claims=1)
    (taken,) = other.claims
    assert (taken.attempt, taken.lost, taken.taken_over) == (2, 1, True)
    assert list(await bench.queue.renew("me", [claim])) == [claim]
    for late in (
        bench.log.append(claim, [TextDelta("x")]),
        bench.queue.finish(claim, END),
        bench.queue.wait(claim, ASKS, signals_read=0),
    ):
        with pytest.raises(LeaseLost):
            await late
    record = await bench.record()
    assert (record.owner, record.attempt, record.last_seq) == ("other", 2, 1)

    await bench.queue.finish(taken, END)
    with pytest.raises(LeaseLost):
        await bench.queue.finish(taken, END)


async def test_what_nobody_serves_waits(bench: Bench) -> None:
    bench.queue.withdraw("me")
    await bench.queue.enqueue(run())
    assert [spec.id for spec in await bench.queue.unfinished()] == ["run-1"]

    bench.queue.serve("other", bench.hands)

    await bench.hands.has(claims=1)
    assert bench.taken == [("run-1", 1)]


async def test_what_nobody_serves_is_aborted_at_once(bench: Bench) -> None:
    bench.queue.withdraw("me")
    await bench.queue.enqueue(run())

    assert await bench.queue.abort("run-1", "Stop it.")

    bench.queue.serve("other", bench.hands)
    assert bench.taken == []
    assert (await bench.record()).status is RunStatus.ABORTED


# Signals and waiting


async def test_a_queued_run_is_aborted_at_once(bench: Bench) -> None:
    first = await bench.claimed()
    await bench.queue.enqueue(run("run-2"))

    assert await bench.queue.abort("run-2", "Stop it.")
    assert not await bench.queue.abort("run-2", "again")

    assert [e.event for e in await told_kept(bench.log, "run-2")] == [Aborted("Stop it.")]
    await bench.queue.finish(first, END)
    assert bench.taken == [("run-1", 1)]


async def test_a_claimed_run_is_aborted_by_its_owner(bench: Bench) -> None:
    await bench.claimed()

    assert await bench.queue.abort("run-1", "Stop it.")

    assert bench.hands.aborted == ["run-1"]
    assert (await bench.record()).status is RunStatus.QUEUED


async def test_a_waiting_run_is_queued_again_by_a_signal(bench: Bench) -> None:
    claim = await bench.claimed()
    await bench.log.append(claim, [Started(0, 0)])
    await bench.queue.wait(claim, ASKS, signals_read=0)
    record = await bench.record()
    assert (record.status, record.owner, record.lease_until) == (RunStatus.WAITING, "", None)
    assert await bench.queue.unfinished(waiting=False) == ()
    assert bench.working == 0
    await bench.queue.idle()

    assert await bench.queue.resolve("run-1", "a1", "allow")

    await bench.hands.has(claims=2)
    assert bench.taken == [("run-1", 1), ("run-1", 2)]
    again = bench.hands.claims[-1]
    assert (again.signals, again.taken_over) == ((ApprovalDecided("a1", "allow"),), False)
    assert (await bench.record()).status is RunStatus.QUEUED


async def test_a_waiting_run_survives_a_look_at_the_leases(bench: Bench) -> None:
    claim = await bench.claimed()
    await bench.queue.wait(claim, ASKS, signals_read=0)

    await bench.expire()

    assert (await bench.record()).status is RunStatus.WAITING


async def test_signals_that_were_read_are_not_delivered_again(bench: Bench) -> None:
    claim = await bench.claimed()
    messages = [MessageInjected(text_message(Role.USER, text)) for text in "ab"]
    for signal in messages:
        await bench.queue.inject("run-1", signal.message)
    await bench.hands.has(signals=2)
    assert bench.hands.signals == messages

    await bench.queue.wait(claim, ASKS, signals_read=1)

    await bench.hands.has(claims=2)
    assert bench.hands.claims[-1].signals == (messages[1],)


# After a restart


async def test_a_run_of_a_dead_process_is_claimed_by_the_next_one(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        claim = await LocalBench(log, HandClock()).claimed()
        await log.append(claim, [Started(0, 0), TextDelta("h")])

    async with started(tmp_path) as log:
        record = await log.find("run-1")
        assert record is not None
        assert (record.owner, record.attempt, record.last_seq) == ("me", 1, 2)
        queue = LocalBench(log, HandClock()).queue
        (left,) = await queue.expired("next")
        assert (left.owner, left.attempt, left.taken_over) == ("next", 2, True)
        with pytest.raises(LeaseLost):
            await log.append(claim, [TextDelta("late")])
        await queue.finish(left, END)
        assert await queue.expired("next") == ()
        assert [event.seq for event in await told_kept(log, "run-1")] == [1, 2, 3]


GOES_ON = OnLeave.CONTINUE


async def test_a_waiting_run_of_a_dead_process_waits_on(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        await bench.queue.wait(await bench.claimed(), ASKS, signals_read=0)

    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        assert await bench.queue.expired("next") == ()
        assert bench.hands.claims == []
        assert list(await bench.queue.unfinished()) == [run()]

        assert await bench.queue.resolve("run-1", "a1", "allow")

        (claim,) = bench.hands.claims
        assert (claim.spec, claim.attempt, claim.lost, claim.taken_over) == (run(), 2, 0, False)
        await bench.queue.finish(claim, END)

    async with started(tmp_path) as log:
        assert await log.unfinished() == ()
        assert log.kept_spec("run-1") is None


@pytest.mark.parametrize("once", [True, False])
async def test_a_submitted_run_of_a_dead_process_goes_on(tmp_path: Path, once: bool) -> None:
    spec = run(on_leave=GOES_ON)
    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        await bench.queue.enqueue(spec, once=once)
        await log.append(bench.hands.claims[0], [Started(0, 0), TextDelta("h")])

    for lost in (1, 2):
        async with started(tmp_path) as log:
            bench = LocalBench(log, HandClock())
            assert await bench.queue.expired("next") == ()
            (claim,) = bench.hands.claims
            assert (claim.spec, claim.lost, claim.taken_over) == (spec, lost, True)
            await log.append(claim, [Resumed(claim.attempt, 1, "again")])


async def test_runs_of_one_session_go_on_in_their_order(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        for number in range(3):
            await bench.queue.enqueue(run(f"run-{number}", on_leave=GOES_ON))

    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        await bench.queue.expired("next")
        await bench.queue.enqueue(run("run-3"))
        for number in range(4):
            claim = bench.hands.claims[-1]
            assert claim.spec.id == f"run-{number}"
            await bench.queue.finish(claim, END)


async def test_a_run_that_is_handed_back_is_not_lost(tmp_path: Path) -> None:
    for attempt in (1, 2):
        async with started(tmp_path) as log:
            bench = LocalBench(log, HandClock())
            if attempt == 1:
                await bench.queue.enqueue(run(on_leave=GOES_ON))
            else:
                assert await bench.queue.expired("next") == ()
            (claim,) = bench.hands.claims
            assert claim.lost == 0
            await log.append(claim, [Resumed(claim.attempt, 0, "again")])

            assert await bench.queue.hand_back("run-1")

            with pytest.raises(LeaseLost):
                await log.append(claim, [TextDelta("late")])
            with pytest.raises(ShuttingDown, match="goes on"):
                await told_kept(log, "run-1")
            assert await bench.queue.unfinished() == ()


async def test_what_outlives_no_process_is_not_handed_back(bench: Bench) -> None:
    await bench.claimed()  # It ends with its client.

    assert not await bench.queue.hand_back("run-1")
    assert not await bench.queue.hand_back("unknown")

    assert [spec.id for spec in await bench.queue.unfinished()] == ["run-1"]


async def test_runs_are_left_to_the_next_process(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        await bench.queue.enqueue(run(on_leave=GOES_ON))
        await log.append(bench.hands.claims[0], [Started(0, 0)])

    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        assert await bench.queue.expired("command line", go_on=False) == ()
        assert bench.hands.claims == []

    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        await bench.queue.expired("next")
        assert [claim.lost for claim in bench.hands.claims] == [1]


async def test_a_run_that_only_waited_for_its_turn_is_not_lost(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        for number in range(2):
            await bench.queue.enqueue(run(f"run-{number}", on_leave=GOES_ON))
        await log.append(bench.hands.claims[0], [Started(0, 0)])

    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        await bench.queue.expired("next")
        (first,) = bench.hands.claims
        await bench.queue.finish(first, END)
        lost = {claim.spec.id: claim.lost for claim in bench.hands.claims}
        assert lost == {"run-0": 1, "run-1": 0}
        # Whether an attempt had begun is not known, since claims are written a moment later.
        assert [claim.taken_over for claim in bench.hands.claims] == [True, True]


async def test_a_death_after_an_orderly_end_counts(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        bench = LocalBench(log, HandClock())
        await bench.queue.enqueue(run(on_leave=GOES_ON))
        await bench.queue.hand_back("run-1")

    for lost in (0, 1):
        async with started(tmp_path) as log:
            bench = LocalBench(log, HandClock())
            await bench.queue.expired("next")
            (claim,) = bench.hands.claims
            assert claim.lost == lost
            await log.append(claim, [Resumed(claim.attempt, 0, "again")])
