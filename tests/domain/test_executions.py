"""What a process makes of a RunSpec, with the configuration that the Run was accepted with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opensoul.domain.errors import UnknownAgent
from opensoul.domain.execution.execution import execution_of
from opensoul.domain.execution.generations import Generations
from opensoul.domain.settings import Settings
from tests.fakes.domain import agent, run, settings


@pytest.mark.parametrize(
    ("configured", "asked", "limit"),
    [
        (600.0, None, 600.0),
        (600.0, 3.0, 3.0),
        (600.0, 601.0, 600.0),
        (None, None, None),
        (None, 3.0, 3.0),
    ],
)
def test_a_request_can_shorten_its_time_and_not_lengthen_it(
    configured: float | None, asked: float | None, limit: float | None
) -> None:
    made = execution_of(run(timeout=asked), settings([agent(timeout=configured)]))

    assert made.agent == agent(timeout=limit)


def test_a_run_of_an_agent_that_is_not_configured_here_is_refused() -> None:
    with pytest.raises(UnknownAgent):
        execution_of(run(agent_id="nobody"), settings())


def named(generation: str) -> Settings:
    return replace(settings(), generation=generation)


def test_a_generation_is_kept_while_a_run_needs_it() -> None:
    current = old = named("old")
    generations = Generations(lambda: current)
    generations.hold(old)
    generations.hold(old)
    current = new = named("new")

    generations.release("old")
    assert generations.find("old") is old
    generations.release("old")
    assert generations.find("old") is new


def test_a_generation_of_another_process_is_replaced_by_the_current_one() -> None:
    current = named("here")

    assert Generations(lambda: current).find("elsewhere") is current
