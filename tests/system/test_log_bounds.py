"""Lines of one kind are bounded, and those that were left out are counted."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from opensoul.adapters.system.logging.bounds import BURST, PERIOD, LogBounds
from opensoul.adapters.system.logging.lines import formatter
from opensoul.adapters.system.logging.ring import LogRing
from opensoul.domain.bounded_logs import KIND
from tests.fakes.domain import FakeClock


class Log:
    """A console and a ring behind one LogBounds."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.bounds = LogBounds(self.clock)
        self.text = io.StringIO()
        console = logging.StreamHandler(self.text)
        console.setFormatter(formatter("json", colours=False))
        self.ring = LogRing()
        self.handlers: list[logging.Handler] = [console, self.ring]
        for handler in self.handlers:
            handler.addFilter(self.bounds)

    def refuse(self, times: int, kind: str = "refused", **more: Any) -> None:
        for _ in range(times):
            logging.getLogger("opensoul.bounded").warning(kind, extra={KIND: kind, **more})

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.getvalue().splitlines()]

    @property
    def left_out(self) -> list[int | None]:
        return [line.get("left_out") for line in self.lines]


@pytest.fixture
def log() -> Iterator[Log]:
    log, root = Log(), logging.getLogger()
    for handler in log.handlers:
        root.addHandler(handler)
    yield log
    for handler in log.handlers:
        root.removeHandler(handler)


def test_ten_lines_of_a_kind_are_written_then_one_a_minute_with_the_number_left_out(
    log: Log,
) -> None:
    log.refuse(1_000)
    assert len(log.lines) == BURST

    for _ in range(3):
        log.clock.advance(PERIOD)
        log.refuse(500)

    assert log.left_out == [None] * BURST + [990, 499, 499]


def test_every_handler_has_the_same_lines(log: Log) -> None:
    log.refuse(30)

    assert len(log.ring.tail(None, limit=100, max_bytes=100_000).lines) == len(log.lines) == BURST


def test_a_line_does_not_say_how_it_was_bounded(log: Log) -> None:
    log.refuse(1, client="192.0.2.1")

    [line] = log.lines
    assert set(line) == {"timestamp", "level", "message", "logger", "client"}


def test_after_a_quiet_minute_ten_lines_are_written_again(log: Log) -> None:
    log.refuse(3)
    log.clock.advance(PERIOD)

    log.refuse(30)

    assert log.left_out == [None] * (3 + BURST)


def test_each_kind_is_counted_for_itself(log: Log) -> None:
    log.refuse(30, "one")
    log.refuse(30, "two")

    assert [line["message"] for line in log.lines] == ["one"] * BURST + ["two"] * BURST


def test_what_was_left_out_is_told_also_when_no_further_line_comes(log: Log) -> None:
    log.refuse(30)
    log.bounds.summarise()
    assert len(log.lines) == BURST
    log.clock.advance(PERIOD)

    log.bounds.summarise()
    log.bounds.summarise()

    [summary] = log.lines[BURST:]
    assert (summary["level"], summary["kind"], summary["left_out"]) == ("warn", "refused", 20)


def test_at_the_end_of_the_process_every_number_is_told(log: Log) -> None:
    log.refuse(30, "one")
    log.refuse(12, "two")

    log.bounds.summarise(final=True)

    assert log.left_out[-2:] == [20, 2]


def test_lines_without_a_kind_are_all_written(log: Log) -> None:
    for _ in range(100):
        logging.getLogger("opensoul.bounded").warning("a run failed")

    assert len(log.lines) == 100


@pytest.mark.parametrize("name", ["hypercorn.error", "asyncio", "quart.app"])
def test_warnings_of_the_server_are_bounded_by_their_first_line(log: Log, name: str) -> None:
    for number in range(100):
        logging.getLogger(name).warning("Error in ASGI Framework\ntransport: %s", number)
        logging.getLogger(name).warning(f"Fatal error on transport\n<transport {number}>")

    assert len(log.lines) == 2 * BURST


def test_what_is_remembered_of_kinds_is_bounded(log: Log) -> None:
    for number in range(1_000):
        log.refuse(1, f"kind {number}")
    assert len(log.lines) < 100

    log.clock.advance(PERIOD)
    log.bounds.summarise()
    assert log.lines[-1]["left_out"] == 1_000 - (len(log.lines) - 1)


def test_a_kind_that_is_quiet_is_forgotten(log: Log) -> None:
    for number in range(60):
        log.refuse(1, f"kind {number}")
    log.clock.advance(PERIOD)
    log.bounds.summarise()

    log.refuse(30, "new")
    log.refuse(30, "another")

    assert [line["message"] for line in log.lines[60:]] == ["new"] * BURST + ["another"] * BURST
