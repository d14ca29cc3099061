"""A served Gateway, a client for it, and its access log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from .app import Harness, served
from .client import Client


class AccessLog(logging.Handler):
    """The lines of the access log, to be awaited: a line is written after the answer is out."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: asyncio.Queue[logging.LogRecord] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.put_nowait(record)

    async def line(self) -> dict[str, Any]:
        """The next line's fields."""
        async with asyncio.timeout(10):
            return vars(await self._lines.get())

    @property
    def is_empty(self) -> bool:
        return self._lines.empty()


@pytest.fixture
async def gateway() -> AsyncIterator[Harness]:
    async with served(Harness()) as harness:
        yield harness


@pytest.fixture
async def client(gateway: Harness) -> AsyncIterator[Client]:
    async with Client(gateway.url) as client:
        yield client


@pytest.fixture
def access_log() -> Iterator[AccessLog]:
    logger, log = logging.getLogger("opensoul.access"), AccessLog()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(log)
    yield log
    logger.removeHandler(log)
    logger.setLevel(level)
