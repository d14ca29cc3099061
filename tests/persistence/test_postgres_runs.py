"""Runs of several processes over one PostgreSQL database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from opensoul.adapters.persistence.postgres.columns import data
from opensoul.adapters.persistence.postgres.runs.bells import channel_of, session_channel
from opensoul.adapters.persistence.postgres.sessions import PostgresStore
from opensoul.domain.chat_commands import ChatCommand, CommandName
from opensoul.domain.errors import LeaseLost, RunAborted, SessionBusy, StoreFailed
from opensoul.domain.messages import Role, text_message
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.runs.claims import ApprovalDecided, MessageInjected
from opensoul.domain.runs.events import Aborted, Resumed, RunEvent, Started, Waiting
from opensoul.domain.runs.records import RunQuery, RunStatus
from opensoul.domain.runs.spec import OnLeave
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.settings import LaneSettings
from tests.fakes.domain import run

from .building import answer, make_turn, question
from .postgres_runs import LEASE, Node, all_of, node, set_clock, stop_clock
from .postgres_server import new_schema
from .run_logs import END, HandClock, numbered

ASKS = Waiting("Approve?", "a1", 2_000.0)
ONE = LaneSettings(max_concurrent=1)


def talk(name: str) -> SessionKey:
    return SessionKey("main", name)


async def nodes(stack: AsyncExitStack, url: str, count: int, **options: object) -> list[Node]:
    return [
        await stack.enter_async_context(node(url, f"node-{n}", **options))  # type: ignore[arg-type]
        for n in range(count)
    ]


async def rows(node: Node, sql: str) -> list[tuple[object, ...]]:
    return await node.database.rows(sql)


async def until(node: Node, sql: str, count: int) -> None:
    async with asyncio.timeout(20):
        while await rows(node, sql) != [(count,)]:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.005)


# Lanes


async def test_equal_submissions_to_several_processes_are_one_run(postgres_url: str) -> None:
    async with AsyncExitStack() as stack:
        all_nodes = await nodes(stack, postgres_url, 4)
        asked = [
            one.queue.enqueue(run("K"), fingerprint="f", once=True)
            for one in all_nodes
            for _ in range(250)
        ]
        answers = await asyncio.gather(*asked)

        assert sum(answer.fresh for answer in answers) == 1
        assert sum(len(one.hands.claims) for one in all_nodes) == 1
        assert await rows(all_nodes[0], "SELECT count(*) FROM runs") == [(1,)]


async def test_runs_of_one_session_follow_one_another_over_two_processes(postgres_url: str) -> None:
    async with AsyncExitStack() as stack:
        first, second = await nodes(stack, postgres_url, 2, limits=lambda: ONE)
        for number in range(6):
            await (first, second)[number % 2].queue.enqueue(run(f"run-{number}"))
        done: list[str] = []
        while len(done) < 6:
            waits = [asyncio.create_task(one.hands.has(claims=1)) for one in (first, second)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            held = [(one, claim) for one in (first, second) for claim in one.hands.claims]
            assert len(held) == 1
            (at, claim) = held[0]
            at.hands.claims.clear()
            done.append(claim.spec.id)
            await at.queue.finish(claim, END)

        assert done == [f"run-{number}" for number in range(6)]
        assert await rows(first, "SELECT count(*) FROM lanes") == [(0,)]


async def test_which_runs_go_on_is_known_at_every_process(postgres_url: str) -> None:
    async with AsyncExitStack() as stack:
        one, other = await nodes(stack, postgres_url, 2)
        for name in ("held", "ended", "queued"):
            await one.queue.enqueue(run(name, session_key=talk(name)))
        await one.queue.finish(one.hands.claims[1], END)
        await one.queue.enqueue(run("behind", session_key=talk("held")))
        asked = ["held", "ended", "queued", "behind", "nobody"]
        for process in (one, other):
            assert await process.events.which_go_on(asked) == {"held", "queued", "behind"}
            listed = (await process.events.list(RunQuery(status=RunStatus.QUEUED))).runs
            assert [record.id for record in listed] == ["behind", "queued", "held"]
            assert not (await process.events.list(RunQuery(status=RunStatus.WAITING))).runs


async def test_a_run_is_claimed_by_one_process(postgres_url: str) -> None:
    async with AsyncExitStack() as stack:
        (gateway,) = await nodes(stack, postgres_url, 1, works=False)
        workers = [
            await stack.enter_async_context(node(postgres_url, f"worker-{n}")) for n in range(3)
        ]
        keys = [talk(f"talk-{n}") for n in range(60)]
        await asyncio.gather(
            *(gateway.queue.enqueue(run(str(key), session_key=key)) for key in keys)
        )
        async with asyncio.timeout(20):
            while sum(len(worker.hands.claims) for worker in workers) < 60:
                waits = [asyncio.create_task(worker.hands.changed.wait()) for worker in workers]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for worker, wait in zip(workers, waits, strict=True):
                    wait.cancel()
                    worker.hands.changed.clear()

        claims = [claim for worker in workers for claim in worker.hands.claims]
        assert Counter(claim.spec.id for claim in claims) == Counter(map(str, keys))
        assert {claim.attempt for claim in claims} == {1}
        assert gateway.hands.claims == []


async def test_a_process_claims_no_more_than_it_has_slots(postgres_url: str) -> None:
    limits = LaneSettings(max_concurrent=2)
    async with AsyncExitStack() as stack:
        (only,) = await nodes(stack, postgres_url, 1, limits=lambda: limits)
        for number in range(5):
            await only.queue.enqueue(run(f"run-{number}", session_key=talk(str(number))))
        await only.queue.look()
        assert [claim.spec.id for claim in only.hands.claims] == ["run-0", "run-1"]

        await only.queue.finish(only.hands.claims[0], END)

        await only.hands.has(claims=3)
        await only.queue.look()
        assert [claim.spec.id for claim in only.hands.claims] == ["run-0", "run-1", "run-2"]


async def test_the_index_refuses_a_second_run_in_a_lane(postgres_url: str) -> None:
    async with node(postgres_url) as one:
        await one.claimed(run("run-1"))
        await one.queue.enqueue(run("run-2"))
        with pytest.raises(StoreFailed, match="one_run_in_a_lane"):
            await rows(one, "UPDATE runs SET state = 'ready' WHERE state = 'queued' RETURNING 1")


# Leases and the fence


async def test_what_a_zombie_does_changes_nothing(postgres_url: str) -> None:
    """Its clock stood still while it was paused, so it takes its lease for valid."""
    async with node(postgres_url, "zombie") as zombie, node(postgres_url, "heir") as heir:
        await stop_clock(zombie)
        claim = await zombie.claimed(run())
        await zombie.events.append(claim, [Started(0, 0), TextDelta("a")])
        await all_kept(zombie, 2)
        await set_clock(zombie, LEASE + 1)
        await heir.queue.look()
        (taken,) = heir.hands.claims
        assert (taken.attempt, taken.lost, taken.taken_over) == (2, 1, True)
        await heir.events.append(taken, [Resumed(2, 1, "again"), TextDelta("b")])
        await all_kept(heir, 4)

        await zombie.events.append(claim, [TextDelta("late")])
        with pytest.raises(LeaseLost):
            await zombie.queue.finish(claim, END)
        with pytest.raises(LeaseLost):
            await zombie.events.append(claim, [TextDelta("later")])
        assert list(await zombie.queue.renew("zombie", [claim])) == [claim]
        await heir.queue.finish(taken, END)

        told: list[RunEvent] = [
            Started(0, 0),
            TextDelta("a"),
            Resumed(2, 1, "again"),
            TextDelta("b"),
            END,
        ]
        for one in (zombie, heir):
            assert await all_of(one.events.follow_kept("run-1")) == numbered(told)


async def all_kept(node: Node, last: int, run_id: str = "run-1") -> None:
    async for batch in node.events.follow_kept(run_id, last - 1):
        assert batch.last >= last
        return


@pytest.mark.parametrize("act", ["append", "finish", "wait", "look"])
async def test_a_process_that_was_paused_for_a_lease_stops_by_itself(
    postgres_url: str, act: str
) -> None:
    """Before it asks the database."""
    clock = HandClock()
    async with node(postgres_url, steady=clock) as one:
        claim = await one.claimed(run())
        await one.events.append(claim, [Started(0, 0)])
        await all_kept(one, 1)
        clock.now += LEASE + 1
        if act == "look":
            await one.queue.look()
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "append": lambda: one.events.append(claim, [TextDelta("late")]),
            "look": lambda: one.events.append(claim, [TextDelta("late")]),
            "finish": lambda: one.queue.finish(claim, END),
            "wait": lambda: one.queue.wait(claim, ASKS, signals_read=0),
        }
        with pytest.raises(LeaseLost):
            await acts[act]()
        assert await rows(one, "SELECT last_seq, state FROM runs") == [(1, "held")]


async def test_who_followed_what_was_never_stored_is_told_so(postgres_url: str) -> None:
    """Numbers must not mean other events later."""
    clock = HandClock()
    async with node(postgres_url, steady=clock) as one:
        claim = await one.claimed(run())
        await one.events.append(claim, [Started(0, 0)])
        await all_kept(one, 1)
        ahead, behind = one.events.follow("run-1"), one.events.follow("run-1")
        assert (await anext(behind)).last == 1
        async with one.events.flusher.writing:  # Nothing is stored meanwhile.
            await one.events.append(claim, [TextDelta("a")])
            assert (await anext(ahead)).last == 2
            clock.now += LEASE + 1
            await one.queue.look()
        with pytest.raises(StoreFailed, match="behind number 1"):
            await anext(ahead)


async def test_nothing_is_taken_over_in_the_first_lease_after_the_servers_start(
    postgres_url: str,
) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        await stop_clock(one)
        await one.claimed(run())
        await set_clock(one, 1_000.0, started=1_000.0 - LEASE)
        await other.queue.look()
        assert other.hands.claims == []

        await set_clock(one, 1_000.1, started=1_000.0 - LEASE)
        await other.queue.look()
        assert other.hands.taken == [("run-1", 2)]


async def test_a_process_renews_only_what_it_holds(postgres_url: str) -> None:
    """A claim whose answer was lost is another's after the lease."""
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        await stop_clock(one)
        await one.queue.enqueue(run("held"))
        await other.database.rows(
            "UPDATE runs SET owner = 'a', attempt = 7 WHERE id = 'held' RETURNING 1"
        )
        await set_clock(one, LEASE / 2)
        assert list(await one.queue.renew("a", one.hands.claims)) == []  # It is quite new.
        await set_clock(one, LEASE + 1)

        await other.queue.look()

        assert other.hands.taken == [("held", 8)]


async def test_a_later_process_of_the_same_host_has_no_claims_of_an_earlier_one(
    postgres_url: str,
) -> None:
    async with node(postgres_url, "first life") as dead:
        await stop_clock(dead)
        await dead.queue.enqueue(run())
        async with node(postgres_url, "second life") as alive:
            assert list(await alive.queue.renew("second life", dead.hands.claims)) == (
                dead.hands.claims
            )
            await set_clock(dead, LEASE + 1)
            await alive.queue.look()
            assert alive.hands.taken == [("run-1", 2)]


async def test_a_claim_returns_what_it_has_leased(postgres_url: str) -> None:
    """Not what an older snapshot shows."""
    async with node(postgres_url, "a", works=False) as gateway:
        for number in range(20):
            await gateway.queue.enqueue(run(f"run-{number}", session_key=talk(str(number))))
        found = await rows(
            gateway, "SELECT state, owner, attempt FROM run_claim('me', 30, ARRAY[5, 0])"
        )
        assert found == [("held", "me", 1)] * 5
        assert await rows(gateway, "SELECT count(*) FROM runs WHERE state = 'held'") == [(5,)]


async def test_events_that_are_sent_again_are_stored_once(postgres_url: str) -> None:
    """The answer of the first time was lost with the connection."""
    async with node(postgres_url) as one:
        claim = await one.claimed(run())
        append = """
            SELECT kept, last FROM run_append(ARRAY['run-1'::bytea], ARRAY['a'], ARRAY[1],
                ARRAY[1], ARRAY[%s], ARRAY['[["t","a"]]'::bytea], ARRAY['running'],
                ARRAY[1.0::double precision])"""
        assert await one.database.rows(append, (1,)) == [(True, 1)]
        assert await one.database.rows(append, (1,)) == [(False, 1)]
        await one.events.append(claim, [TextDelta("a"), TextDelta("b")])
        await one.queue.finish(claim, END)

        told: list[RunEvent] = [TextDelta("a"), TextDelta("b"), END]
        assert await all_of(one.events.follow_kept("run-1")) == numbered(told)


async def test_a_run_that_was_taken_over_too_often_is_counted(postgres_url: str) -> None:
    async with node(postgres_url, "a", works=False) as one:
        await stop_clock(one)
        await one.queue.enqueue(run())
        for attempt in range(1, 4):
            await set_clock(one, attempt * (LEASE + 1))
            (row,) = await rows(one, "SELECT attempt, lost FROM run_claim('x', 30, ARRAY[1])")
            assert row == (attempt, attempt - 1)
            await rows(one, "UPDATE runs SET last_seq = last_seq + 1 RETURNING 1")


async def test_attempts_that_stored_no_event_count_a_tenth_of_lost_ones(postgres_url: str) -> None:
    async with node(postgres_url, "a", works=False) as one:
        await stop_clock(one)
        await one.queue.enqueue(run())
        lost = []
        for attempt in range(1, 23):
            await set_clock(one, attempt * (LEASE + 1))
            (row,) = await rows(one, "SELECT lost FROM run_claim('x', 30, ARRAY[1])")
            lost.append(row[0])
        assert lost == [0] * 10 + [1] * 10 + [2] * 2


# Following


async def test_a_run_is_followed_from_another_process_without_a_gap(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        claim = await one.claimed(run())
        following = [
            asyncio.create_task(all_of(way("run-1", after)))
            for way in (other.events.follow, other.events.follow_kept)
            for after in (0, 0, 7)
        ]
        said: list[RunEvent] = [
            Started(0, 0),
            *(TextDelta(f"{n} ") for n in range(400)),
            TextDelta("x" * 9_000),
        ]
        for number, event in enumerate(said):
            await one.events.append(claim, [event])
            if number % 17 == 0:
                await asyncio.sleep(0.001)  # Others have their turn: there are many flushes.
        await one.queue.finish(claim, END)

        events = numbered([*said, END])
        told = await asyncio.gather(*following)
        assert told == [events, events, events[7:]] * 2


async def test_a_bell_brings_short_events_without_a_query(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        claim = await one.claimed(run())
        await one.events.append(claim, [Started(0, 0)])
        events = other.events.follow("run-1")
        assert (await anext(events)).last == 1
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await one.events.append(claim, [TextDelta("a")])
        assert list(await waiting) == numbered([TextDelta("a")], 2)


async def test_a_bell_that_is_lost_is_made_up_for(postgres_url: str) -> None:
    async with (
        node(postgres_url, "a") as one,
        node(postgres_url, "b", look_every=0.05) as other,
    ):
        claim = await one.claimed(run())
        following = asyncio.create_task(all_of(other.events.follow("run-1")))
        one.events.bells.ring = lambda *_, **__: None  # type: ignore[method-assign]
        await one.events.append(claim, [Started(0, 0), TextDelta("a")])
        await one.queue.finish(claim, END)

        assert await following == numbered([Started(0, 0), TextDelta("a"), END])


async def test_a_bell_that_rings_during_the_first_read_is_heard(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        claim = await one.claimed(run())
        rows_of = other.database.rows

        async def overtaken(query: str, values: object = (), **options: bool) -> object:
            found = await rows_of(query, values, **options)  # type: ignore[arg-type]
            if "JOIN LATERAL" in query and not (await one.events.find("run-1")).last_seq:  # type: ignore[union-attr]
                heard = other.events.watches.get("run-1")
                await one.events.append(claim, [Started(0, 0)])
                async with asyncio.timeout(20):
                    while not heard.recent:  # noqa: ASYNC110 - no event tells
                        await asyncio.sleep(0.001)
            return found

        other.database.rows = overtaken  # type: ignore[method-assign,assignment]
        async with asyncio.timeout(20):
            assert (await anext(other.events.follow("run-1"))).last == 1


async def test_followers_go_on_when_their_connection_for_bells_breaks(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        claim = await one.claimed(run())
        events = other.events.follow("run-1")
        await one.events.append(claim, [Started(0, 0)])
        assert (await anext(events)).last == 1
        waiting = asyncio.ensure_future(anext(events))
        await rows(
            one,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'",
        )
        await one.events.append(claim, [TextDelta("a")])

        async with asyncio.timeout(20):
            assert (await waiting).last == 2


async def test_followers_go_on_after_a_notification_that_cannot_be_read(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A later version may send others."""
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        claim = await one.claimed(run())
        events = other.events.follow("run-1")
        await one.events.append(claim, [Started(0, 0)])
        assert (await anext(events)).last == 1
        waiting = asyncio.ensure_future(anext(events))
        channel = session_channel(channel_of(data(str(run().session_key))))
        one.events.bells.ring(channel, "another form")
        await one.events.append(claim, [TextDelta("a")])

        async with asyncio.timeout(20):
            assert (await waiting).last == 2
    assert "a notification could not be handled" in caplog.text


async def test_a_follower_stays_when_another_process_takes_the_run_over(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as heir:
        await stop_clock(one)
        claim = await one.claimed(run())
        here, there = one.events.follow("run-1"), heir.events.follow("run-1")
        await one.events.append(claim, [Started(0, 0)])
        assert (await anext(here)).last == (await anext(there)).last == 1
        await all_kept(one, 1)
        rest = [asyncio.create_task(all_of(events)) for events in (here, there)]
        await set_clock(one, LEASE + 1)
        await heir.queue.look()
        (taken,) = heir.hands.claims
        await heir.events.append(taken, [Resumed(2, 0, "again"), TextDelta("b")])
        assert list(await one.queue.renew("a", [])) == []
        one.events.held.lose(one.events.held.get("run-1"))  # type: ignore[arg-type]
        await heir.queue.finish(taken, END)

        told = numbered([Resumed(2, 0, "again"), TextDelta("b"), END], 2)
        assert await asyncio.gather(*rest) == [told, told]


async def test_the_end_of_a_run_elsewhere_is_awaited(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        claim = await one.claimed(run())
        ended = asyncio.create_task(other.events.ended("run-1"))
        await one.events.append(claim, [Started(0, 0)])
        await all_kept(other, 1)
        assert not ended.done()
        await one.queue.finish(claim, END)
        async with asyncio.timeout(20):
            await ended
        await other.events.ended("run-1")
        await other.events.ended("unknown")


async def test_events_of_a_moment_share_a_row_and_a_statement(postgres_url: str) -> None:
    async with node(postgres_url) as one:
        claims = [await one.claimed(run(f"r{n}", session_key=talk(f"{n}"))) for n in range(20)]
        for claim in claims:
            await one.events.append(claim, [Started(0, 0)])
            await one.events.append(claim, [TextDelta("a")])
        for claim in claims:
            await all_kept(one, 2, claim.spec.id)
        found = await rows(one, "SELECT count(*), count(DISTINCT xmin::text) FROM events")
        assert found == [(20, 1)]


async def test_a_run_with_very_many_events_waits_for_the_database(postgres_url: str) -> None:
    async with node(postgres_url) as one:
        claim = await one.claimed(run())
        events = one.events.follow_kept("run-1")
        async with one.events.flusher.writing:
            adding = asyncio.create_task(one.events.append(claim, [TextDelta("x" * 5_000_000)]))
            await asyncio.sleep(0)
            assert not adding.done()
        assert (await anext(events)).last == 1
        assert await adding == 1


# Signals


async def test_a_run_is_aborted_from_another_process(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        await one.claimed(run())

        assert await other.queue.abort("run-1", "Stop it.")
        assert not await other.queue.abort("run-1", "again")

        await one.hands.has(aborted=1)
        assert one.hands.aborted == ["run-1"]


async def test_an_abort_whose_bell_is_lost_comes_with_the_renewal(postgres_url: str) -> None:
    clock = HandClock()
    async with node(postgres_url, "a", steady=clock) as one, node(postgres_url, "b") as other:
        claim = await one.claimed(run())
        other.events.bells.ring = lambda *_, **__: None  # type: ignore[method-assign]
        await other.queue.abort("run-1", "Stop it.")
        await other.queue.inject("run-1", text_message(Role.USER, "a"))
        assert one.hands.aborted == []

        clock.now += LEASE / 3
        assert list(await one.queue.renew("a", [claim])) == []

        assert one.hands.aborted == ["run-1"]
        await one.hands.has(signals=1)


async def test_a_run_that_was_to_be_aborted_ends_so_after_its_owner_died(postgres_url: str) -> None:
    async with node(postgres_url, "a") as dead, node(postgres_url, "b") as heir:
        await stop_clock(dead)
        dead.hands.stops = True
        await dead.claimed(run())
        assert await heir.queue.abort("run-1", "Stop it.")
        await set_clock(dead, LEASE + 1)
        await heir.queue.look()

        assert await all_of(heir.events.follow_kept("run-1")) == numbered([Aborted("Stop it.")])
        assert (heir.hands.claims, heir.hands.closings) == ([], ["run-1"])


async def test_a_queued_run_is_aborted_from_another_process(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        first = await one.claimed(run("run-1"))
        await one.queue.enqueue(run("run-2"))
        following = asyncio.create_task(all_of(one.events.follow("run-2")))

        assert await other.queue.abort("run-2", "Stop it.")

        assert await following == numbered([Aborted("Stop it.")])
        await one.queue.finish(first, END)
        assert await rows(one, "SELECT count(*) FROM lanes") == [(0,)]


async def test_signals_reach_a_run_from_another_process_in_order(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        await one.claimed(run())
        sent = [text_message(Role.USER, f"{n} \ud800\0") for n in range(5)]
        for message in sent:
            assert await other.queue.inject("run-1", message)
        assert await other.queue.resolve("run-1", "a1", "allow")

        await one.hands.has(signals=6)
        assert one.hands.signals == [*map(MessageInjected, sent), ApprovalDecided("a1", "allow")]
        assert not await other.queue.inject("unknown", sent[0])


async def test_a_waiting_run_goes_on_in_another_process(postgres_url: str) -> None:
    async with node(postgres_url, "b") as other:
        async with node(postgres_url, "a") as one:
            claim = await one.claimed(run())
            await one.events.append(claim, [Started(0, 0)])
            await one.queue.wait(claim, ASKS, signals_read=0)
        following = asyncio.create_task(all_of(other.events.follow("run-1")))
        assert await other.queue.resolve("run-1", "a1", "allow")
        await other.hands.has(claims=1)
        (again,) = other.hands.claims
        assert (again.spec, again.attempt, again.lost, again.taken_over) == (run(), 2, 0, False)
        assert again.signals == (ApprovalDecided("a1", "allow"),)
        await other.queue.finish(again, END)

        assert await following == numbered([Started(0, 0), ASKS, END])
        assert await rows(other, "SELECT count(*) FROM signals") == [(0,)]


async def test_a_run_that_is_aborted_does_not_wait(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        claim = await one.claimed(run())
        one.hands.stops = False
        await other.queue.abort("run-1", "Stop it.")
        await one.queue.wait(claim, ASKS, signals_read=0)

        told = numbered([ASKS, Aborted("Stop it.")])
        assert await all_of(other.events.follow_kept("run-1")) == told


async def test_what_works_for_a_run_ends_with_it(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        claim = await one.claimed(run("parent"))
        child = run("child", session_key=talk("subagent:1"), parent="parent")
        await other.claimed(child)
        await one.queue.finish(claim, END)

        await other.hands.has(aborted=1)
        with pytest.raises(RunAborted):
            await other.queue.enqueue(run("late", session_key=talk("x"), parent="parent"))


# Sessions


async def test_a_change_is_done_beside_no_run_of_another_process(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b", works=False) as other:
        claim = await one.claimed(run("run-1"))
        began, go_on = asyncio.Event(), asyncio.Event()

        async def work() -> str:
            began.set()
            await go_on.wait()
            return "done"

        change = asyncio.create_task(other.queue.exclusive(run().session_key, work, patience=20))
        await until(one, "SELECT count(*) FROM changes", 1)
        await one.queue.enqueue(run("run-2"))
        assert not began.is_set()
        await one.queue.finish(claim, END)
        await began.wait()
        await one.queue.look()
        assert one.hands.taken == [("run-1", 1)]
        go_on.set()

        assert await change == "done"
        await one.hands.has(claims=2)
        assert one.hands.taken == [("run-1", 1), ("run-2", 1)]


async def test_a_change_whose_turn_does_not_come_is_given_up(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b", works=False) as other:
        claim = await one.claimed(run("run-1"))

        async def work() -> None:
            pytest.fail("its turn has not come")

        with pytest.raises(SessionBusy):
            await other.queue.exclusive(run().session_key, work, patience=0.05)
        await one.queue.finish(claim, END)
        await one.queue.enqueue(run("run-2"))
        await one.hands.has(claims=2)


async def test_a_change_of_a_dead_process_frees_its_lane(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one:
        await stop_clock(one)
        await rows(one, "SELECT change_enter('agent:main:talk', 'dead', 30, 20)")
        await one.queue.enqueue(run())
        assert one.hands.claims == []
        await set_clock(one, LEASE + 1)
        await one.queue.look()
        assert one.hands.taken == [("run-1", 1)]


@pytest.mark.parametrize("how", ["append", "reset", "compact", "delete"])
async def test_a_change_that_has_lost_its_turn_writes_nothing(postgres_url: str, how: str) -> None:
    """A Run of another process may be at work by then."""
    async with node(postgres_url, "zombie") as zombie, node(postgres_url, "heir") as heir:
        await stop_clock(zombie)
        store = PostgresStore(zombie.database)
        await store.open()
        key = run().session_key
        await store.append(make_turn("r1", question("hi"), answer("ho"), key=key))
        before = await store.find(key)

        async def work() -> None:
            await set_clock(zombie, LEASE + 1)
            await heir.queue.look()
            await heir.queue.enqueue(run())
            assert heir.hands.taken == [("run-1", 1)]
            match how:
                case "append":
                    await store.append(make_turn("r2", question("hi"), answer("ho"), key=key))
                case "reset":
                    await store.reset(key, at=1.0, new_id="new")
                case "compact":
                    await store.compact(key, 0, at=1.0, new_id="new")
                case "delete":
                    await store.delete(key)

        with pytest.raises(SessionBusy, match="not made"):
            await zombie.queue.exclusive(key, work, patience=20)
        found = await store.find(key)
        await store.append(
            make_turn("r3", question("hi"), answer("ho"), key=key)
        )  # Outside of a change.
        await store.close()

        assert found == before


async def test_a_change_stops_the_runs_before_it(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        claim = await one.claimed(run("run-1"))
        await one.queue.enqueue(run("run-2"))

        async def work() -> str:
            return "done"

        change = asyncio.create_task(
            other.queue.exclusive(run().session_key, work, patience=20, stop="Reset.")
        )
        await one.hands.has(aborted=1)
        await one.queue.finish(claim, Aborted("Reset."))
        assert await change == "done"
        assert (await other.events.find("run-2")).status is RunStatus.ABORTED  # type: ignore[union-attr]


# The end


async def test_a_run_of_another_processes_client_is_handed_back(postgres_url: str) -> None:
    async with node(postgres_url, "gateway", works=False) as gateway:
        async with node(postgres_url, "a") as one:
            await gateway.queue.enqueue(run())
            await one.hands.has(claims=1)
            claim = one.hands.claims[0]
            await one.events.append(claim, [Started(0, 0), TextDelta("a")])
            one.queue.refuse()

            assert await one.queue.hand_back("run-1")

            with pytest.raises(LeaseLost):
                await one.events.append(claim, [TextDelta("late")])
            await one.queue.idle()
        async with node(postgres_url, "b") as other:
            await other.queue.look()
            (again,) = other.hands.claims
            assert (again.attempt, again.lost, again.taken_over) == (2, 0, True)
            await other.queue.finish(again, END)
            told = await all_of(gateway.events.follow("run-1"))
            assert [event.seq for event in told] == [1, 2, 3]


async def test_runs_of_other_processes_are_theirs_when_one_ends(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        await one.claimed(run("run-1"))
        await one.queue.enqueue(run("run-2"))
        for run_id in ("run-1", "run-2"):
            assert await other.queue.hand_back(run_id)
        assert one.hands.aborted == []
        await other.queue.idle()


async def test_who_leaves_while_a_run_is_accepted_leaves_none(postgres_url: str) -> None:
    async with node(postgres_url) as one:
        asking = asyncio.create_task(one.queue.enqueue(run(on_leave=OnLeave.ABORT)))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait((asking,))

        await one.hands.has(aborted=1)


async def test_a_command_ends_with_its_process(postgres_url: str) -> None:
    """What it was cannot be stored; who takes it over can only end it."""
    command = ChatCommand(CommandName.STATUS)
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        await stop_clock(one)
        await one.claimed(run("run-1"))
        await one.queue.enqueue(run("run-2", command=command))
        assert one.hands.taken == [("run-1", 1), ("run-2", 1)]
        assert [spec.id for spec in await one.queue.unfinished()] == ["run-1", "run-2"]
        assert [spec.id for spec in await other.queue.unfinished()] == ["run-1"]
        await set_clock(one, LEASE + 1)
        await other.queue.look()
        left = {claim.spec.id: claim for claim in other.hands.claims}
        assert left["run-2"].spec.messages == ()
        assert left["run-2"].taken_over


async def test_runs_of_all_processes_are_listed(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one, node(postgres_url, "b") as other:
        first = await one.claimed(run("run-1"))
        await other.claimed(run("run-2", session_key=talk("b")))
        await one.events.append(first, [Started(0, 0)])
        await all_kept(one, 1)
        for at in (one, other):
            listed = (await at.events.list(RunQuery())).runs
            assert [(record.id, record.status) for record in listed] == [
                ("run-2", RunStatus.QUEUED),
                ("run-1", RunStatus.RUNNING),
            ]


async def test_ended_runs_and_their_events_are_forgotten(postgres_url: str) -> None:
    async with node(postgres_url, keep_seconds=100.0, look_every=0.02) as one:
        await stop_clock(one)
        for number in range(3):
            claim = await one.claimed(run(f"run-{number}"))
            if number < 2:
                await one.queue.finish(claim, END)
        await set_clock(one, 101.0)
        async with node(postgres_url, "b", keep_seconds=100.0) as other:
            await until(other, "SELECT count(*) FROM runs", 1)
        assert await rows(one, "SELECT count(*) FROM events") == [(0,)]


async def test_events_that_take_too_much_room_go_and_their_runs_stay(postgres_url: str) -> None:
    async with node(postgres_url, "a") as one:
        for number in range(4):
            claim = await one.claimed(run(f"run-{number}"))
            await one.events.append(claim, [TextDelta("x" * 5_000)])
            await one.queue.finish(claim, END)
        async with node(postgres_url, "b", keep_bytes=11_000) as other:
            await until(other, "SELECT count(*) FROM events", 2)
            assert len((await other.events.list(RunQuery())).runs) == 4


async def test_schemas_of_one_database_have_bells_of_their_own(
    postgres_url: str, postgres_server: str
) -> None:
    with new_schema(postgres_server) as elsewhere:
        async with node(postgres_url, "a") as one, node(elsewhere, "b") as other:
            for at in (one, other):
                await at.claimed(run())
            events = other.events.follow("run-1")
            waiting = asyncio.ensure_future(anext(events))
            await one.events.append(one.hands.claims[0], [TextDelta("not yours")])
            await all_kept(one, 1)
            assert not waiting.done()
            waiting.cancel()
