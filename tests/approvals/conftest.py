from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.approvals.office import Office, open_office
from tests.control.client import Peer
from tests.fakes.provider import FakeProvider


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest_asyncio.fixture
async def office(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Office]:
    async with open_office(tmp_path, provider) as office:
        yield office


@pytest_asyncio.fixture
async def peer(office: Office) -> AsyncIterator[Peer]:
    async with office.connected() as peer:
        yield peer
