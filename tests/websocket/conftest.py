"""A server with the Gateway's own timing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.websocket.serving import Served, serving


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served
