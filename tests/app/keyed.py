"""A Gateway with API keys, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest_asyncio

from tests.app.serving import SECRET, Served, config
from tests.control.client import connected
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

SCOPES = ["operator.read", "operator.write"]
AGENTS: dict[str, Any] = {
    "defaults": {"model": {"primary": "fake/m"}},
    "list": [{"id": "main"}, {"id": "guide"}, {"id": "cook"}],
}


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


def content(provider: FakeProvider, **auth: Any) -> dict[str, Any]:
    """A configuration with three agents; a million tokens cost a million dollars."""
    whole = config(provider.base_url, agents=AGENTS)
    model = {"id": "m", "cost": {"input": 1e6, "output": 1e6}}
    whole["models"]["providers"]["fake"]["models"] = [model]
    whole["gateway"]["auth"] = {"token": SECRET, **auth}
    return whole


async def created(served: Served, name: str, **params: Any) -> str:
    """A new key's secret."""
    async with connected(served.client, SECRET) as operator:
        answered = await operator.call("keys.create", {"name": name, **params})
    assert set(answered) == {"id", "name", "key"}
    secret: str = answered["key"]
    assert secret.startswith("osk_")
    return secret


async def administer(served: Served, method: str, **params: Any) -> Any:
    async with connected(served.client, SECRET) as operator:
        return await operator.call(method, params)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def ask(served: Served, secret: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return served.client.post(
        "/v1/chat/completions",
        json=served.question(**body),
        headers=bearer(secret) | (headers or {}),
    )


async def asked(
    served: Served, secret: str, headers: dict[str, str] | None = None, **body: Any
) -> aiohttp.ClientResponse:
    """The response, read."""
    async with ask(served, secret, headers, **body) as response:
        await response.read()
        return response  # type: ignore[no-any-return]


def entered(served: Served, secret: str, scopes: list[str] = SCOPES) -> Any:
    return connected(served.client, secret, scopes=scopes)
