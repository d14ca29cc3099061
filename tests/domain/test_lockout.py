"""How guessers are slowed down, and what that may cost."""

from __future__ import annotations

import pytest

from opensoul.domain.errors import LockedOut
from opensoul.domain.lockout import Lockout
from opensoul.domain.settings import LockoutSettings
from tests.fakes.domain import FakeClock

LIMITS = LockoutSettings()
GUESSER = "203.0.113.7"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lockout(clock: FakeClock) -> Lockout:
    return Lockout(clock)


def lock_out(lockout: Lockout, address: str = GUESSER) -> None:
    locked = [lockout.failed(address, LIMITS) for _ in range(LIMITS.max_attempts)]
    assert locked == [False] * (LIMITS.max_attempts - 1) + [True]


def test_the_tenth_failure_within_a_minute_locks_for_five_minutes(
    lockout: Lockout, clock: FakeClock
) -> None:
    lock_out(lockout)

    with pytest.raises(LockedOut) as refused:
        lockout.check(GUESSER)
    assert refused.value.retry_after == 300.0
    clock.advance(299.5)
    with pytest.raises(LockedOut) as refused:
        lockout.check(GUESSER)
    assert refused.value.retry_after == 0.5
    clock.advance(0.5)
    lockout.check(GUESSER)


def test_nine_failures_do_not_lock(lockout: Lockout) -> None:
    assert not any(lockout.failed(GUESSER, LIMITS) for _ in range(9))
    lockout.check(GUESSER)


def test_an_address_never_seen_is_not_locked(lockout: Lockout) -> None:
    lockout.check(GUESSER)


def test_the_window_slides(lockout: Lockout, clock: FakeClock) -> None:
    for _ in range(50):
        assert not lockout.failed(GUESSER, LIMITS)
        clock.advance(60 / 9)  # Nine in every minute, for ever.

    for _ in range(9):
        lockout.failed(GUESSER, LIMITS)
    with pytest.raises(LockedOut):
        lockout.check(GUESSER)


def test_failures_a_window_old_do_not_count(lockout: Lockout, clock: FakeClock) -> None:
    for _ in range(9):
        lockout.failed(GUESSER, LIMITS)
    clock.advance(60)

    assert not lockout.failed(GUESSER, LIMITS)


def test_after_a_lockout_counting_starts_over(lockout: Lockout, clock: FakeClock) -> None:
    lock_out(lockout)
    clock.advance(300)

    lock_out(lockout)


def test_success_forgives(lockout: Lockout) -> None:
    for _ in range(9):
        lockout.failed(GUESSER, LIMITS)
    lockout.succeeded(GUESSER)

    assert len(lockout) == 0
    assert not lockout.failed(GUESSER, LIMITS)
    lockout.succeeded("198.51.100.1")


def test_what_is_remembered_is_bounded_and_the_longest_silent_goes_first(
    lockout: Lockout,
) -> None:
    limits = LockoutSettings(max_attempts=2, max_addresses=3)
    for last in (1, 2, 3, 1, 4):
        lockout.failed(f"198.51.100.{last}", limits)

    assert len(lockout) == 3
    with pytest.raises(LockedOut):
        lockout.check("198.51.100.1")
    assert not lockout.failed("198.51.100.2", limits)


def test_lowered_limits_hold_at_once(lockout: Lockout) -> None:
    for _ in range(4):
        lockout.failed(GUESSER, LIMITS)

    assert lockout.failed(GUESSER, LockoutSettings(max_attempts=3))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::2%eth1"),
    ],
)
def test_addresses_that_one_client_owns_count_as_one(
    lockout: Lockout, one: str, other: str
) -> None:
    lock_out(lockout, one)

    with pytest.raises(LockedOut):
        lockout.check(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("203.0.113.7", "203.0.113.8"),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.8"),
        ("::1", "::2"),
        ("local socket", "127.0.0.1"),
    ],
)
def test_addresses_of_different_clients_count_apart(lockout: Lockout, one: str, other: str) -> None:
    lock_out(lockout, one)

    lockout.check(other)
