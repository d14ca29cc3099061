"""A warning when nodes have different configurations for longer than a change takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from opensoul.app.configurations import Configurations
from opensoul.domain.ports import NodeInfo


def node(name: str, configuration: str, *, alive: bool = True) -> NodeInfo:
    return NodeInfo(name, name, "all", "1", "host", 1, configuration=configuration, alive=alive)


SAME = (node("a", "x"), node("b", "x"))
DIFFERENT = (node("a", "x"), node("b", "y"))
ONE_DEAD = (node("a", "x"), node("b", "y", alive=False))
WARNING, NOTE = "nodes have different configurations", "all nodes have the same configuration"


@pytest.mark.parametrize(
    ("looks", "logged"),
    [
        ([SAME, SAME], []),
        ([SAME, DIFFERENT, SAME, SAME], []),
        ([DIFFERENT, DIFFERENT, DIFFERENT], [WARNING]),
        ([ONE_DEAD, ONE_DEAD], []),
        ([DIFFERENT, DIFFERENT, SAME, SAME, SAME], [WARNING, NOTE]),
        ([DIFFERENT, DIFFERENT, SAME, SAME, DIFFERENT, DIFFERENT], [WARNING, NOTE, WARNING]),
    ],
)
async def test_a_difference_that_stays_is_logged_once(
    caplog: pytest.LogCaptureFixture, looks: Sequence[tuple[NodeInfo, ...]], logged: list[str]
) -> None:
    left = list(looks)

    async def listed() -> tuple[NodeInfo, ...]:
        return left.pop(0)

    configurations = Configurations(listed)
    with caplog.at_level(logging.INFO):
        while left:
            await configurations.compare()
    assert [record.message for record in caplog.records] == logged
