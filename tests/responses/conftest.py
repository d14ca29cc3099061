"""A served Gateway whose Responses endpoint is on, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from opensoul.domain.settings import EndpointSettings, Settings
from tests.http.app import Harness, served, some_settings

from .client import ResponsesClient


def responses_on() -> Settings:
    return replace(some_settings(), endpoints=EndpointSettings(responses=True))


@pytest.fixture
async def gateway() -> AsyncIterator[Harness]:
    async with served(Harness(responses_on())) as harness:
        yield harness


@pytest.fixture
async def client(gateway: Harness) -> AsyncIterator[ResponsesClient]:
    async with ResponsesClient(gateway.url) as client:
        yield client
