"""How guessers are slowed down, and what that may cost."""

from __future__ import annotations

import tracemalloc
from itertools import count

import pytest

from opensoul.domain.access.lockout import Lockout
from opensoul.domain.errors import LockedOut
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


_NUMBERS = count()


def guess(lockout: Lockout, limits: LockoutSettings = LIMITS, *, address: str = GUESSER) -> bool:
    """A wrong credential that was never tried before."""
    return lockout.failed(address, limits, [b"guess %d" % next(_NUMBERS)])


def lock_out(lockout: Lockout, address: str = GUESSER) -> None:
    locked = [guess(lockout, address=address) for _ in range(LIMITS.max_attempts)]
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
    assert not any(guess(lockout) for _ in range(9))
    lockout.check(GUESSER)


def test_an_address_never_seen_is_not_locked(lockout: Lockout) -> None:
    lockout.check(GUESSER)


def test_the_window_slides(lockout: Lockout, clock: FakeClock) -> None:
    for _ in range(50):
        assert not guess(lockout)
        clock.advance(60 / 9)  # Nine in every minute, for ever.

    for _ in range(9):
        guess(lockout)
    with pytest.raises(LockedOut):
        lockout.check(GUESSER)


def test_failures_a_window_old_do_not_count(lockout: Lockout, clock: FakeClock) -> None:
    for _ in range(9):
        guess(lockout)
    clock.advance(60)

    assert not guess(lockout)


def test_after_a_lockout_counting_starts_over(lockout: Lockout, clock: FakeClock) -> None:
    lock_out(lockout)
    clock.advance(300)

    lock_out(lockout)


def test_success_forgives(lockout: Lockout) -> None:
    for _ in range(9):
        guess(lockout)
    lockout.succeeded(GUESSER)

    assert len(lockout) == 0
    assert not guess(lockout)
    lockout.succeeded("198.51.100.1")


def test_what_is_remembered_is_bounded_and_the_longest_silent_goes_first(
    lockout: Lockout,
) -> None:
    limits = LockoutSettings(max_attempts=2, max_addresses=3)
    for last in (1, 2, 3, 1, 4):
        guess(lockout, limits, address=f"198.51.100.{last}")

    assert len(lockout) == 3
    with pytest.raises(LockedOut):
        lockout.check("198.51.100.1")
    assert not guess(lockout, limits, address="198.51.100.2")


def test_a_locked_address_stays_locked_whatever_ten_thousand_others_do(lockout: Lockout) -> None:
    lock_out(lockout)

    for number in range(LIMITS.max_addresses + 100):
        guess(lockout, address=f"2001:db8:0:{number:x}::1")

    assert len(lockout) == LIMITS.max_addresses
    with pytest.raises(LockedOut):
        lockout.check(GUESSER)


FULL = LockoutSettings(max_attempts=2, max_addresses=3)


def fill(lockout: Lockout) -> list[str]:
    """Lock out as many addresses as the table of `FULL` has room for."""
    locked = [f"198.51.100.{last}" for last in range(FULL.max_addresses)]
    for address in locked:
        assert [guess(lockout, FULL, address=address) for _ in range(2)] == [False, True]
    return locked


def test_a_table_full_of_locked_addresses_keeps_them_and_counts_all_others_together(
    lockout: Lockout, clock: FakeClock
) -> None:
    locked = fill(lockout)
    lockout.check("203.0.113.1")

    assert not guess(lockout, FULL, address="203.0.113.1")
    assert guess(lockout, FULL, address="203.0.113.2")

    for address in (*locked, "203.0.113.1", "203.0.113.3"):
        with pytest.raises(LockedOut):
            lockout.check(address)
    assert len(lockout) == FULL.max_addresses
    clock.advance(FULL.duration)
    for address in (*locked, "203.0.113.1", "203.0.113.3"):
        lockout.check(address)
    assert not guess(lockout, FULL, address="203.0.113.3")
    assert len(lockout) == 1


def test_loopback_is_counted_for_itself_when_the_table_is_full(lockout: Lockout) -> None:
    fill(lockout)
    guess(lockout, FULL, address="203.0.113.1")
    guess(lockout, FULL, address="203.0.113.2")

    lockout.check("127.0.0.1")

    assert not guess(lockout, FULL, address="127.0.0.1")
    assert guess(lockout, FULL, address="127.0.0.2")
    with pytest.raises(LockedOut):
        lockout.check("::1")


def test_a_failure_of_a_locked_address_neither_shortens_nor_extends_its_time(
    lockout: Lockout, clock: FakeClock
) -> None:
    lock_out(lockout)
    clock.advance(299)

    assert not any(guess(lockout) for _ in range(20))

    clock.advance(1)
    lockout.check(GUESSER)


def test_lowered_limits_hold_at_once(lockout: Lockout) -> None:
    for _ in range(4):
        guess(lockout)

    assert guess(lockout, LockoutSettings(max_attempts=3))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("127.0.0.1", "127.9.9.9"),
        ("127.0.0.2", "::1"),
        ("::1", "::ffff:127.3.2.1"),
        ("::ffff:127.0.0.5", "127.0.0.1"),
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


def test_the_same_wrong_credential_counts_once_a_minute(lockout: Lockout) -> None:
    for _ in range(50):
        assert not lockout.failed(GUESSER, LIMITS, [b"stale"])

    assert not any(guess(lockout) for _ in range(8))
    assert guess(lockout)  # The tenth of different ones.


def test_a_wrong_credential_counts_again_when_its_minute_is_over(
    lockout: Lockout, clock: FakeClock
) -> None:
    lockout.failed(GUESSER, LIMITS, [b"stale"])
    clock.advance(60)

    assert not any(guess(lockout) for _ in range(8))
    assert not lockout.failed(GUESSER, LIMITS, [b"stale"])
    assert guess(lockout)


@pytest.mark.parametrize("window", [1.0, 60.0, 600.0])
def test_a_program_that_polls_with_stale_secrets_locks_nobody_out(
    lockout: Lockout, clock: FakeClock, window: float
) -> None:
    limits = LockoutSettings(max_attempts=3, window=window)
    for _ in range(2_000):
        for stale in (b"stale", b"older"):
            assert not lockout.failed(GUESSER, limits, [stale])
        clock.advance(0.7)


@pytest.mark.parametrize(
    "other", [[b"stalf"], [b"stal"], [b"stale", None], [b"sta", b"le"], [None, b"stale"], []]
)
def test_credentials_that_differ_anywhere_count_apart(
    lockout: Lockout, other: list[bytes | None]
) -> None:
    limits = LockoutSettings(max_attempts=2)
    assert not lockout.failed(GUESSER, limits, [b"stale"])

    assert lockout.failed(GUESSER, limits, other)


def test_every_address_counts_one_and_the_same_credential_for_itself(lockout: Lockout) -> None:
    limits = LockoutSettings(max_attempts=1)

    assert lockout.failed(GUESSER, limits, [b"stale"])
    assert lockout.failed("198.51.100.1", limits, [b"stale"])


def test_credentials_are_not_kept_and_their_digests_are_bounded(lockout: Lockout) -> None:
    limits = LockoutSettings(max_attempts=1_000_000)
    tracemalloc.start()
    try:
        for number in range(2_000):
            lockout.failed(GUESSER, limits, [b"%d" % number * 10_000])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 400_000  # Kept, the credentials would be 75 MB.
