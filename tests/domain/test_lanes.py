"""Who works, who waits, and who is sent away."""

from __future__ import annotations

import asyncio

import pytest

from opensoul.adapters.persistence.queue.lanes import Lanes, Place
from opensoul.domain.errors import GatewayBusy, SessionBusy
from opensoul.domain.settings import LaneSettings


class Limits:
    """The limits in force, which a test may change."""

    def __init__(self, **limits: int) -> None:
        self.now = LaneSettings(**limits)

    def __call__(self) -> LaneSettings:
        return self.now


def granted(*places: Place) -> list[bool]:
    return [place.granted for place in places]


def test_the_first_in_a_session_works_at_once() -> None:
    lanes = Lanes(Limits())
    place = lanes.enter("a")

    assert place.granted
    assert (lanes.working, lanes.waiting) == (1, 0)


def test_one_at_a_time_works_in_a_session_in_the_order_of_arrival() -> None:
    lanes = Lanes(Limits())
    first, second, third = (lanes.enter("a") for _ in range(3))

    assert granted(first, second, third) == [True, False, False]
    first.leave()
    assert granted(second, third) == [True, False]
    second.leave()
    assert third.granted
    third.leave()
    assert (lanes.working, lanes.waiting) == (0, 0)


def test_sessions_do_not_wait_for_one_another() -> None:
    lanes = Lanes(Limits())

    assert granted(lanes.enter("a"), lanes.enter("b"), lanes.enter("c")) == [True] * 3


def test_a_cap_holds_over_all_sessions() -> None:
    lanes = Lanes(Limits(max_concurrent=2))
    a, b, c = lanes.enter("a"), lanes.enter("b"), lanes.enter("c")

    assert granted(a, b, c) == [True, True, False]
    assert (lanes.working, lanes.waiting) == (2, 1)
    b.leave()
    assert c.granted


def test_a_long_queue_in_one_session_does_not_hold_up_the_others() -> None:
    lanes = Lanes(Limits(max_concurrent=1))
    a1, a2, a3 = (lanes.enter("a") for _ in range(3))
    b = lanes.enter("b")

    a1.leave()
    assert granted(a2, a3, b) == [False, False, True]
    b.leave()
    assert granted(a2, a3) == [True, False]


async def test_a_turn_is_waited_for() -> None:
    lanes = Lanes(Limits())
    first, second = lanes.enter("a"), lanes.enter("a")
    await first.turn()
    waiting = asyncio.create_task(second.turn())
    await asyncio.sleep(0)
    assert not waiting.done()

    first.leave()
    await waiting
    assert second.granted


async def test_who_gives_up_in_the_queue_is_passed_over() -> None:
    lanes = Lanes(Limits())
    first, second, third = (lanes.enter("a") for _ in range(3))

    async def wait() -> None:
        with second:
            await second.turn()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert lanes.waiting == 1
    first.leave()
    assert granted(second, third) == [False, True]


async def test_who_gives_up_as_its_turn_comes_hands_it_on() -> None:
    lanes = Lanes(Limits())
    first, second, third = (lanes.enter("a") for _ in range(3))

    async def wait() -> None:
        with second:
            await second.turn()
            pytest.fail("a cancelled place must not work")

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    first.leave()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert third.granted
    assert (lanes.working, lanes.waiting) == (1, 0)


async def test_a_turn_that_comes_after_its_waiter_was_cancelled_is_not_lost() -> None:
    lanes = Lanes(Limits())
    first, second, third = (lanes.enter("a") for _ in range(3))
    waiting = asyncio.create_task(second.turn())
    await asyncio.sleep(0)
    waiting.cancel()
    first.leave()
    await asyncio.gather(waiting, return_exceptions=True)

    second.leave()
    assert third.granted


def test_who_gives_up_while_waiting_for_a_slot_lets_its_session_go_on() -> None:
    lanes = Lanes(Limits(max_concurrent=1))
    working, head, behind, other = (lanes.enter(name) for name in "abbc")

    head.leave()
    working.leave()
    assert granted(behind, other) == [False, True]  # `behind` reached its head later.
    other.leave()
    assert behind.granted


def test_leaving_twice_is_leaving_once() -> None:
    lanes = Lanes(Limits())
    first, second, third = (lanes.enter("a") for _ in range(3))

    first.leave()
    first.leave()
    assert granted(second, third) == [True, False]


def test_a_place_is_left_at_the_end_of_its_context() -> None:
    lanes = Lanes(Limits())
    place = lanes.enter("a")

    with place as entered:
        assert entered is place
        assert lanes.working == 1
    assert lanes.working == 0


def test_a_full_session_sends_away_telling_the_place_in_the_queue() -> None:
    lanes = Lanes(Limits(max_waiting=2))
    for _ in range(3):
        lanes.enter("a")

    with pytest.raises(SessionBusy, match="would be number 3 in the queue") as refused:
        lanes.enter("a")
    assert "agents.defaults.maxWaiting is 2" in refused.value.message
    assert refused.value.retry_after == 15
    assert lanes.waiting == 2
    assert lanes.enter("b").granted


def test_without_waiting_a_session_takes_one() -> None:
    lanes = Lanes(Limits(max_waiting=0))
    lanes.enter("a")

    with pytest.raises(SessionBusy):
        lanes.enter("a")


def test_a_full_gateway_sends_away_who_would_have_to_wait() -> None:
    lanes = Lanes(Limits(max_concurrent=1, max_queued=2))
    for name in "abc":
        lanes.enter(name)

    with pytest.raises(GatewayBusy, match=r"maxQueued is 2") as refused:
        lanes.enter("d")
    assert refused.value.retry_after == 5
    assert (lanes.working, lanes.waiting) == (1, 2)


def test_full_queues_elsewhere_send_nobody_away_who_can_work_at_once() -> None:
    lanes = Lanes(Limits(max_concurrent=2, max_queued=1))
    lanes.enter("a")
    lanes.enter("a")

    assert lanes.enter("b").granted
    with pytest.raises(GatewayBusy):
        lanes.enter("c")


def test_without_a_queue_whoever_can_work_at_once_is_taken() -> None:
    lanes = Lanes(Limits(max_concurrent=1, max_queued=0))

    assert lanes.enter("a").granted
    with pytest.raises(GatewayBusy):
        lanes.enter("b")


def test_who_is_sent_away_leaves_nothing_behind() -> None:
    lanes = Lanes(Limits(max_concurrent=1, max_queued=0))
    first = lanes.enter("a")
    for session in ("a", "b"):
        with pytest.raises(GatewayBusy):
            lanes.enter(session)

    first.leave()
    assert lanes.enter("b").granted


def test_a_raised_limit_holds_from_the_next_entry_on() -> None:
    limits = Limits(max_concurrent=1)
    lanes = Lanes(limits)
    _, b, c = (lanes.enter(name) for name in "abc")

    limits.now = LaneSettings(max_concurrent=3)
    a = lanes.enter("a")
    assert granted(a, b, c) == [False, True, True]


def test_a_lowered_limit_lets_those_at_work_finish() -> None:
    limits = Limits(max_concurrent=3)
    lanes = Lanes(limits)
    a, b, c = (lanes.enter(name) for name in "abc")
    limits.now = LaneSettings(max_concurrent=1)
    d = lanes.enter("d")

    a.leave()
    b.leave()
    assert not d.granted
    c.leave()
    assert d.granted
