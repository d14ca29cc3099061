"""Embeddings of a configured provider, with API keys and their limits, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest_asyncio

from tests.app.keyed import administer, bearer, content, created, provider
from tests.app.serving import SECRET, Served, serving
from tests.fakes.behaviours import Exchange
from tests.fakes.provider import FakeProvider

__all__ = ["provider"]


async def embeddings(exchange: Exchange) -> None:
    """One vector for each text; seven tokens."""
    texts = exchange.request.json["input"]
    document = {
        "data": [{"index": i, "embedding": [len(text), 1]} for i, text in enumerate(texts)],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    await exchange.whole(200, orjson.dumps(document), "application/json", {})


def configured(provider: FakeProvider, **endpoint: Any) -> dict[str, Any]:
    whole = content(provider)
    entry = {"id": "embed", "cost": {"input": 1e6}}
    whole["models"]["providers"]["fake"]["models"].append(entry)
    section = {"enabled": True, "models": ["fake/embed", "fake/unlisted"], **endpoint}
    whole["gateway"]["http"]["endpoints"]["embeddings"] = section
    return whole


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    provider.default = embeddings
    async with serving(tmp_path, configured(provider)) as served:
        yield served


async def embedded(served: Served, secret: str, **body: Any) -> tuple[aiohttp.ClientResponse, Any]:
    question = {"model": "opensoul", "input": ["a", "bb"], **body}
    path, headers = "/v1/embeddings", bearer(secret)
    async with served.client.post(path, json=question, headers=headers) as response:
        return response, await response.json()


async def test_the_provider_is_called_with_its_own_name_of_the_model(
    served: Served, provider: FakeProvider
) -> None:
    response, answer = await embedded(served, SECRET)
    assert response.status == 200
    assert [item["embedding"] for item in answer["data"]] == [[1.0, 1.0], [2.0, 1.0]]
    assert answer["model"] == "fake/embed"
    sent = await provider.arrival()
    assert (sent.path, sent.json["model"]) == ("/v1/embeddings", "embed")
    assert sent.json["input"] == ["a", "bb"]

    assert (await embedded(served, SECRET, model="unlisted"))[1]["model"] == "fake/unlisted"


async def test_what_a_key_uses_is_counted(served: Served) -> None:
    key = await created(served, "one")
    await embedded(served, key)
    await embedded(served, key)

    (row,) = (await administer(served, "usage.keys"))["keys"]
    totals = row["totals"]
    assert (totals["requests"], totals["runs"]) == (2, 0)
    assert (totals["input"], totals["output"], totals["totalCost"]) == (14, 0, 14.0)


async def test_the_limits_of_a_key_hold(served: Served) -> None:
    fast = await created(served, "fast", requestsPerMinute=1)
    large = await created(served, "large", tokensPerDay=5)
    for key, code in ((fast, "rate_limit_exceeded"), (large, "insufficient_quota")):
        response, _ = await embedded(served, key)
        assert response.status == 200
        response, answer = await embedded(served, key)
        assert (response.status, answer["error"]["code"]) == (429, code)
        assert "Retry-After" in response.headers


async def test_a_key_names_only_its_own_agents(served: Served) -> None:
    key = await created(served, "kitchen", agents=["cook"])
    assert (await embedded(served, key, model="opensoul/cook"))[0].status == 200
    assert (await embedded(served, key))[0].status == 200
    assert (await embedded(served, key, model="opensoul/guide"))[0].status == 404


async def test_a_changed_list_of_models_is_in_force_at_once(
    served: Served, provider: FakeProvider
) -> None:
    served.configure(configured(provider, models=["fake/other"]))

    assert (await embedded(served, SECRET))[1]["model"] == "fake/other"
