"""The clock that shows the database's time."""

from __future__ import annotations

import logging

import pytest

from opensoul.app.server_clock import ServerClock


class Machine:
    """A machine whose clock a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def measured(clock: ServerClock, machine: Machine, server: float, *, took: float = 0.0) -> None:
    answered = clock.measure()
    machine.now += took
    answered(server)


def test_it_is_the_machines_clock_before_a_measurement() -> None:
    machine = Machine()
    assert ServerClock(machine)() == machine()


def test_it_shows_the_databases_time_and_goes_on_with_the_machine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = Machine()
    clock = ServerClock(machine)
    measured(clock, machine, 4_600.0, took=0.2)
    assert clock() == pytest.approx(4_600.1)
    machine.now += 10
    assert clock() == pytest.approx(4_610.1)
    assert "the clock of this machine is not that of the database" in caplog.text


def test_a_clock_that_ntp_keeps_is_not_corrected(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    clock = ServerClock(machine)
    with caplog.at_level(logging.DEBUG):
        measured(clock, machine, 1_000.04)
        measured(clock, machine, 1_000.5, took=1.0)
        measured(clock, machine, 1_001.9, took=1.0)
    assert clock() == machine()
    assert not caplog.records


def test_a_machines_clock_that_is_set_is_followed_with_the_next_measurement() -> None:
    machine = Machine()
    clock = ServerClock(machine)
    measured(clock, machine, 1_000.0)
    machine.now -= 3_600
    measured(clock, machine, 1_003.0)
    assert clock() == pytest.approx(1_003.0)
    machine.now += 3_600
    measured(clock, machine, 1_006.0)
    assert clock() == pytest.approx(1_006.0)


def test_a_measurement_in_which_the_machines_clock_was_set_back_does_not_count() -> None:
    machine = Machine()
    clock = ServerClock(machine)
    measured(clock, machine, 1_000.0, took=-500.0)
    assert clock() == machine()
