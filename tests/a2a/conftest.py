from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.app.keyed import content, provider
from tests.app.serving import Served, serving
from tests.fakes.provider import FakeProvider

from .agents import Caller, calling, switched_on

__all__ = ["provider"]


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    """A Gateway with the agents `main`, `guide` and `cook`."""
    whole = switched_on(content(provider)) | {"tools": {"allow": ["write", "read"]}}
    async with serving(tmp_path, whole) as served:
        yield served


@pytest_asyncio.fixture(params=["1.0", "0.3"])
async def caller(served: Served, request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    """A client of each version of the protocol."""
    async with calling(served, version=request.param) as caller:
        yield caller


@pytest_asyncio.fixture
async def current(served: Served) -> AsyncIterator[Caller]:
    """A client of the current version."""
    async with calling(served) as caller:
        yield caller
