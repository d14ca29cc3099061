"""The event loops of the tests: which one a test runs on, and that no error on one stays unseen."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Generator, Mapping

import pytest

from tests.examples import register_profiles
from tests.persistence.postgres_server import (
    emptied_postgres,
    postgres_server,
    postgres_url,
    shared_postgres,
)

__all__ = ["emptied_postgres", "postgres_server", "postgres_url", "shared_postgres"]

register_profiles()

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

SOCKET_SUITES = {"app", "client", "control", "http", "tui", "websocket"}
"""Folders whose tests serve or open real sockets in this process."""
BOTH = "both_loops"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=("mixed", "asyncio", "uvloop", "both"),
        default="mixed",
        help="The event loop of the tests. mixed: uvloop, as in production, for tests with "
        f"sockets, both for those marked {BOTH}, asyncio for the rest. both: both for all tests "
        "with sockets.",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{BOTH}: run on asyncio's loop and on uvloop.")
    config.addinivalue_line("markers", "e2e: starts whole programs; run by `make test-all`.")
    config.addinivalue_line("markers", "slow: takes seconds; run by `make test-all`.")
    errors = LoopErrors()
    config.stash[_ERRORS] = errors
    logging.getLogger("asyncio").addFilter(errors)


def pytest_unconfigure(config: pytest.Config) -> None:
    logging.getLogger("asyncio").removeFilter(config.stash[_ERRORS])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a server of PostgreSQL start a whole program."""
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        named = item.path.name + item.name.partition("[")[0]
        if "postgres" in named or "postgres" in values:
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """Workers send their reports as UTF-8, which captured output with a lone surrogate is not."""
    return _encodable((yield))


def _encodable(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {name: _encodable(item) for name, item in value.items()}
        case tuple():
            return tuple(map(_encodable, value))
        case list():
            return list(map(_encodable, value))
        case _:
            return value


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:  # There is none for Windows.
        return factories
    factories["uvloop"] = uvloop.new_event_loop
    name = _loop_of(item, config.getoption("--loop"))
    return factories if name == "both" else {name: factories[name]}


def _loop_of(item: pytest.Item, chosen: str) -> str:
    has_sockets = item.path.parent.name in SOCKET_SUITES
    if chosen == "both":
        return "both" if has_sockets else "asyncio"
    if chosen != "mixed":
        return chosen
    if item.get_closest_marker(BOTH) is not None:
        return "both"
    return "uvloop" if has_sockets else "asyncio"


class LoopErrors(logging.Filter):
    """Remembers the errors that event loops report.

    A loop without an exception handler of its own, in whichever thread, reports to the logger
    `asyncio`: exceptions of callbacks and of servers' connections, exceptions of tasks that were
    never retrieved, tasks that were destroyed while pending. A filter, for the application removes
    that logger's handlers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            self.seen.append(logging.Formatter().format(record))
        return True


_ERRORS = pytest.StashKey[LoopErrors]()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    # Nearly all that is made here stays, and to look through it again and again takes a sixth of
    # the time of each process.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.set_threshold(20_000, 50, 100)  # As in a Gateway; each test ends with a collection.
        gc.enable()


def pytest_collection_finish() -> None:
    # What was imported stays, so the collections below need not look through it.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    """Fail a test on whose loops an error was reported.

    An exception that nobody retrieved is reported when its task is garbage, which takes a
    collection where the task is part of a cycle. A full one takes 10 ms: one per module.
    """
    yield
    last_of_module = nextitem is None or nextitem.path != item.path
    gc.collect(2 if last_of_module else 1)
    errors = item.config.stash[_ERRORS].seen
    if errors:
        report = "\n".join(errors)
        errors.clear()
        where = "this test or an earlier one of its module" if last_of_module else "this test"
        pytest.fail(f"An event loop reported an error in {where}:\n{report}", pytrace=False)
