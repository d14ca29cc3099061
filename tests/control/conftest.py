"""A provider, a Gateway on top of it, and clients of the control protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.app.serving import SECRET, Served, config, serving
from tests.control.client import Peer, connected
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

Enter = Callable[..., AbstractAsyncContextManager[Peer]]


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with serving(tmp_path, config(provider.base_url)) as served:
        yield served


@pytest.fixture
def enter(served: Served) -> Enter:
    """Connects with the shared secret and every scope, unless told otherwise."""

    def enter(token: str | None = SECRET, **changes: Any) -> AbstractAsyncContextManager[Peer]:
        return connected(served.client, token, **changes)

    return enter


@pytest_asyncio.fixture
async def peer(enter: Enter) -> AsyncIterator[Peer]:
    async with enter() as peer:
        yield peer
