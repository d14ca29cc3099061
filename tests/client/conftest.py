"""A fake Gateway, and clients of it that wait for nothing between their attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from opensoul.client import Backoff, Client, Options

from .fake_gateway import TOKEN, FakeGateway, serving

Connect = Callable[..., Client]


@pytest.fixture
async def fake() -> AsyncIterator[FakeGateway]:
    async with serving(FakeGateway()) as served:
        yield served


async def at_once(_: float) -> None:
    """The wait between two attempts."""
    await asyncio.sleep(0)


@pytest.fixture
def connect(fake: FakeGateway) -> Connect:
    def make(*, on_gap: Any = None, on_state: Any = None, **options: Any) -> Client:
        given: dict[str, Any] = {
            "url": fake.url,
            "token": TOKEN,
            "backoff": Backoff(give_up_after=20),
        } | options
        return Client(Options(**given), on_gap=on_gap, on_state=on_state, sleep=at_once)

    return make
