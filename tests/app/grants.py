"""A Gateway behind a proxy that names people, with the example of an authenticator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from dependency_injector import providers

from examples.header_authenticator import HeaderAuthenticator
from opensoul.app import plugins
from tests.app.serving import SECRET, Served, config, hurried, serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

PATIENCE = 20.0
AGENTS: dict[str, Any] = {
    "defaults": {"model": {"primary": "fake/m"}},
    "list": [{"id": "main"}, {"id": "guide"}],
}
READ = ["operator.read", "operator.write"]


@pytest.fixture
def people() -> HeaderAuthenticator:
    return HeaderAuthenticator()


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


def content(provider: FakeProvider, secret: str = SECRET) -> dict[str, Any]:
    whole = config(provider.base_url, agents=AGENTS)
    whole["gateway"]["auth"] = {"token": secret, "authenticators": ["proxy"]}
    whole["gateway"]["trustedProxies"] = ["127.0.0.1"]
    return whole


@pytest_asyncio.fixture
async def served(
    tmp_path: Path,
    provider: FakeProvider,
    people: HeaderAuthenticator,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Served]:
    point = EntryPoint("proxy", f"{__name__}:installed", plugins.AUTHENTICATORS)
    find = providers.Object(lambda group: [point] if group == plugins.AUTHENTICATORS else [])
    monkeypatch.setitem(globals(), "installed", lambda: people)
    async with serving(
        tmp_path, content(provider), find_plugins=find, supervisor=hurried()
    ) as served:
        yield served


def through_proxy(user: str) -> dict[str, str]:
    return {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-User": user}


def ask(served: Served, headers: dict[str, str], **body: Any) -> Any:
    return served.client.post("/v1/chat/completions", json=served.question(**body), headers=headers)


async def first_text(response: aiohttp.ClientResponse) -> None:
    async for line in response.content:
        if b"Hel" in line:
            return


async def rest(response: aiohttp.ClientResponse) -> str:
    async with asyncio.timeout(PATIENCE):
        return (await response.content.read()).decode()
