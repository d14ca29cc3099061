"""A provider and a client, fresh for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from opensoul.adapters.providers.openai.client import OpenAICompletions
from tests.fakes.provider import FakeProvider


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def client() -> AsyncIterator[OpenAICompletions]:
    client = OpenAICompletions()
    yield client
    await client.close()
