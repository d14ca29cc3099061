"""A served Gateway whose Responses endpoint is on, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from opensoul.domain.settings import EndpointSettings
from tests.http.app import Harness, served, some_settings

from .client import ResponsesClient


@pytest.fixture
async def gateway() -> AsyncIterator[Harness]:
    settings = replace(some_settings(), endpoints=EndpointSettings(responses=True))
    async with served(Harness(settings)) as harness:
        yield harness


@pytest.fixture
async def client(gateway: Harness) -> AsyncIterator[ResponsesClient]:
    async with ResponsesClient(gateway.url) as client:
        yield client
