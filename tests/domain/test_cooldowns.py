"""Which candidate is tried first after failures."""

from __future__ import annotations

import pytest

from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models.cooldowns import Cooldowns
from tests.fakes.domain import FakeClock, target

ONE, TWO, THREE = target("acme/one"), target("acme/two"), target("other/one")
ALL = [ONE, TWO, THREE]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cooldowns(clock: FakeClock) -> Cooldowns:
    return Cooldowns(clock)


def failure(
    kind: FailureKind = FailureKind.OVERLOADED, retry_after: float | None = None
) -> ModelFailed:
    return ModelFailed(kind, "no", retry_after=retry_after)


def lasts(cooldowns: Cooldowns, clock: FakeClock, seconds: float) -> bool:
    """Whether the cooldown of ONE ends exactly after so many seconds; moves the clock there."""
    clock.advance(seconds - 1)
    before = cooldowns.order(ALL)
    clock.advance(1)
    return before == [TWO, THREE, ONE] and cooldowns.order(ALL) == ALL


def test_without_failures_the_order_is_the_configured_one(cooldowns: Cooldowns) -> None:
    assert cooldowns.order(ALL) == ALL


def test_a_failed_candidate_goes_behind_the_others_and_is_not_left_out(
    cooldowns: Cooldowns,
) -> None:
    cooldowns.failed(ONE, failure())

    assert cooldowns.order(ALL) == [TWO, THREE, ONE]
    assert cooldowns.order([ONE]) == [ONE]


def test_when_all_have_failed_the_order_is_the_configured_one(cooldowns: Cooldowns) -> None:
    for one in reversed(ALL):
        cooldowns.failed(one, failure())

    assert cooldowns.order(ALL) == ALL


def test_each_failure_in_a_row_cools_five_times_longer_up_to_an_hour(
    cooldowns: Cooldowns, clock: FakeClock
) -> None:
    for minutes in (1, 5, 25, 60, 60, *[60] * 10):
        cooldowns.failed(ONE, failure())
        assert lasts(cooldowns, clock, 60 * minutes)


def test_a_candidate_without_credit_cools_five_hours_doubling_up_to_a_day(
    cooldowns: Cooldowns, clock: FakeClock
) -> None:
    for hours in (5, 10, 20, 24, 24):
        cooldowns.failed(ONE, failure(FailureKind.BILLING))
        assert lasts(cooldowns, clock, 3_600 * hours)


@pytest.mark.parametrize(("told", "seconds"), [(7.0, 7.0), (90_000.0, 3_600.0)])
def test_a_provider_may_say_how_long_up_to_an_hour(
    cooldowns: Cooldowns, clock: FakeClock, told: float, seconds: float
) -> None:
    cooldowns.failed(ONE, failure(FailureKind.RATE_LIMIT, retry_after=told))

    assert lasts(cooldowns, clock, seconds)


def test_failures_side_by_side_count_as_one(cooldowns: Cooldowns, clock: FakeClock) -> None:
    for _ in range(20):
        cooldowns.failed(ONE, failure())

    assert lasts(cooldowns, clock, 60)


def test_a_shorter_cooldown_does_not_end_a_longer_one(
    cooldowns: Cooldowns, clock: FakeClock
) -> None:
    cooldowns.failed(ONE, failure(FailureKind.BILLING))
    cooldowns.failed(ONE, failure(FailureKind.RATE_LIMIT, retry_after=1))

    assert lasts(cooldowns, clock, 5 * 3_600)


@pytest.mark.parametrize("kind", [FailureKind.BAD_REQUEST, FailureKind.CONTEXT_TOO_LONG])
def test_a_request_at_fault_cools_nobody(cooldowns: Cooldowns, kind: FailureKind) -> None:
    cooldowns.failed(ONE, failure(kind))

    assert cooldowns.order(ALL) == ALL


def test_success_forgets_the_failures(cooldowns: Cooldowns, clock: FakeClock) -> None:
    cooldowns.failed(ONE, failure())
    clock.advance(60)
    cooldowns.failed(ONE, failure())
    cooldowns.succeeded(ONE)

    assert cooldowns.order(ALL) == ALL
    cooldowns.failed(ONE, failure())
    assert lasts(cooldowns, clock, 60)


def test_success_without_a_failure_is_nothing(cooldowns: Cooldowns) -> None:
    cooldowns.succeeded(ONE)

    assert cooldowns.order(ALL) == ALL


def test_another_credential_is_another_candidate(cooldowns: Cooldowns) -> None:
    mine, yours = target("acme/one", api_key="mine"), target("acme/one", api_key="yours")
    cooldowns.failed(mine, failure())

    assert cooldowns.order([mine, yours, ONE]) == [yours, ONE, mine]


def test_a_credential_of_any_characters_is_told_apart(cooldowns: Cooldowns) -> None:
    strange = target("acme/one", api_key="\ud800")
    cooldowns.failed(strange, failure())

    assert cooldowns.order([strange, ONE]) == [ONE, strange]


def test_what_is_remembered_is_bounded(cooldowns: Cooldowns) -> None:
    cooldowns.failed(ONE, failure())
    for number in range(1_000):
        cooldowns.failed(target(f"many/{number}"), failure())

    assert cooldowns.order(ALL) == ALL
