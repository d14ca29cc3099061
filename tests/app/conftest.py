"""A provider and, on top of it, a Gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.app.serving import Served, config, serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with serving(tmp_path, config(provider.base_url)) as served:
        yield served
