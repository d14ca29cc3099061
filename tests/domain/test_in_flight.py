"""The budget for the bytes of all requests."""

from __future__ import annotations

import sys

import pytest

from opensoul.domain.byte_budget import InFlight, held_bytes
from opensoul.domain.errors import GatewayBusy
from opensoul.domain.messages import Image, Message, Reasoning, Role, Text, ToolCall


def test_what_is_charged_is_given_back_with_the_last_holder() -> None:
    budget = InFlight(lambda: 100)
    charge = budget.charge()
    charge.add(60)
    charge.keep()

    charge.release()
    assert budget.used == 60

    charge.release()
    assert budget.used == 0


def test_beyond_the_limit_a_request_is_refused_and_nothing_is_added() -> None:
    budget = InFlight(lambda: 100)
    budget.charge().add(60)
    late = budget.charge()
    late.add(30)

    with pytest.raises(GatewayBusy, match="maxBytesInFlight is 100") as refused:
        late.add(11)

    assert refused.value.retry_after
    assert budget.used == 90
    late.release()
    assert budget.used == 60


def test_a_request_alone_fits_any_budget() -> None:
    budget = InFlight(lambda: 100)
    alone = budget.charge()

    alone.add(60)
    alone.add(60)

    assert budget.used == 120


def test_a_limit_that_is_lowered_is_in_force_at_once() -> None:
    limits = [100]
    budget = InFlight(lambda: limits[0])
    budget.charge().add(60)
    limits[0] = 50

    with pytest.raises(GatewayBusy):
        budget.charge().add(1)


def test_a_charge_is_raised_and_never_lowered_by_raising() -> None:
    budget = InFlight(lambda: 100)
    charge = budget.charge()
    charge.add(10)

    charge.raise_to(40)
    charge.raise_to(20)
    assert budget.used == 40

    charge.reduce(30)
    assert budget.used == 10
    charge.reduce(30)
    assert budget.used == 0


def test_a_text_counts_as_wide_as_it_is_in_memory() -> None:
    narrow, wide = "a" * 1_000, "a" * 999 + "\U0001f600"
    parts = (Text(wide), Reasoning(narrow), Image(narrow, "image/png"), ToolCall("i", "f", narrow))

    held = held_bytes([Message(Role.ASSISTANT, parts)])

    assert held == sys.getsizeof(wide) + 3 * sys.getsizeof(narrow)
    assert held > 7_000
