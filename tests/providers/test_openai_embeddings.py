"""The client of OpenAI's embeddings API: what it sends, what it reads, and how calls fail."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from opensoul.adapters.providers.openai import OpenAIEmbeddings
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models import EmbeddingRequest, Usage
from tests.fakes import behaviours as fake
from tests.fakes.behaviours import Behaviour, Exchange
from tests.fakes.provider import FakeProvider

from .calls import KEY, call


@pytest.fixture
async def embedder() -> AsyncIterator[OpenAIEmbeddings]:
    embedder = OpenAIEmbeddings()
    yield embedder
    await embedder.close()


def request(url: str, *texts: str, **more: Any) -> EmbeddingRequest:
    named = {name: more.pop(name) for name in ("dimensions", "input_type") if name in more}
    return EmbeddingRequest(call(url, **more).target, texts or ("Hi",), **named)


def answering(document: Any, status: int = 200) -> Behaviour:
    async def behaviour(exchange: Exchange) -> None:
        body = document if isinstance(document, bytes) else orjson.dumps(document)
        await exchange.head("application/json", status)
        await exchange.piece(body)
        await exchange.end()

    return behaviour


def listed(*embeddings: Any, **more: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": i, "embedding": e} for i, e in enumerate(embeddings)]
    return {"object": "list", "data": data, **more}


async def failure(embedder: OpenAIEmbeddings, request: EmbeddingRequest) -> ModelFailed:
    with pytest.raises(ModelFailed) as raised:
        await embedder.embed(request)
    return raised.value


async def test_texts_are_sent_with_the_providers_key(
    provider: FakeProvider, embedder: OpenAIEmbeddings
) -> None:
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    provider.will(answering(listed([0.5, -1], [1, 2], usage=usage)))
    made = await embedder.embed(
        request(
            provider.base_url,
            "one",
            "half \ud83d",
            dimensions=2,
            input_type="query",
            target_params={"truncate": "END"},
        )
    )

    assert [struct.unpack("<ff", vector) for vector in made.vectors] == [(0.5, -1.0), (1.0, 2.0)]
    assert made.usage == Usage(5, 0)
    sent = await provider.arrival()
    assert sent.path == "/v1/embeddings"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.json == {
        "model": "tiny",
        "input": ["one", "half \ufffd"],
        "encoding_format": "float",
        "dimensions": 2,
        "input_type": "query",
        "truncate": "END",
    }


async def test_connections_are_used_again(
    provider: FakeProvider, embedder: OpenAIEmbeddings
) -> None:
    provider.will(answering(listed([1])), answering(listed([1])))
    for _ in range(2):
        await embedder.embed(request(provider.base_url))

    assert provider.connections == 1


async def test_vectors_are_put_into_the_order_of_their_indexes(
    provider: FakeProvider, embedder: OpenAIEmbeddings
) -> None:
    document = listed([1], [2])
    document["data"].reverse()
    provider.will(answering(document))
    made = await embedder.embed(request(provider.base_url, "a", "b"))

    assert made.vectors == (struct.pack("<f", 1), struct.pack("<f", 2))


async def test_base64_is_read_where_a_provider_always_sends_it(
    provider: FakeProvider, embedder: OpenAIEmbeddings
) -> None:
    packed = struct.pack("<ff", 0.25, 4)
    provider.will(answering(listed(base64.b64encode(packed).decode())))

    assert (await embedder.embed(request(provider.base_url))).vectors == (packed,)


@pytest.mark.parametrize(
    "usage", [None, {}, [], {"prompt_tokens": 0}, {"prompt_tokens": True}, {"total_tokens": "5"}]
)
async def test_usage_may_be_missing(
    provider: FakeProvider, embedder: OpenAIEmbeddings, usage: Any
) -> None:
    provider.will(answering(listed([1], usage=usage)))

    assert (await embedder.embed(request(provider.base_url))).usage is None


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"{", "no list `data`"),
        (b"data: x\n\n", "not a list of embeddings"),
        (b"<html>", "not a list of embeddings"),
        ([1], "no list `data`"),
        ({}, "no list `data`"),
        ({"data": {}}, "no list `data`"),
        (listed(), "0 embeddings for 1 texts"),
        (listed([1], [2]), "2 embeddings for 1 texts"),
        ({"data": ["x"]}, "`data[0]` is not an object"),
        ({"data": [{"index": 1, "embedding": [1]}]}, "`data[0].index` is wrong"),
        ({"data": [{"index": "0", "embedding": [1]}]}, "`data[0].index` is wrong"),
        (listed([]), "not a list of numbers"),
        (listed(None), "not a list of numbers"),
        (listed(["1"]), "not a list of numbers"),
        (listed([True]), "not a list of numbers"),
        (listed([[1]]), "not a list of numbers"),
        (listed([1e300]), "not a list of numbers"),
        (listed("???"), "not a list of numbers"),
        (listed(base64.b64encode(b"abc").decode()), "not a list of numbers"),
        (listed(base64.b64encode(struct.pack("<f", float("nan"))).decode()), "list of numbers"),
    ],
)
async def test_an_answer_that_is_none_is_a_bad_response(
    provider: FakeProvider, embedder: OpenAIEmbeddings, document: Any, says: str
) -> None:
    provider.will(answering(document))
    failed = await failure(embedder, request(provider.base_url))

    assert failed.kind is FailureKind.BAD_RESPONSE
    assert says in failed.message


async def test_vectors_of_different_lengths_are_a_bad_response(
    provider: FakeProvider, embedder: OpenAIEmbeddings
) -> None:
    provider.will(answering(listed([1], [1, 2])))
    failed = await failure(embedder, request(provider.base_url, "a", "b"))

    assert failed.kind is FailureKind.BAD_RESPONSE
    assert "number of dimensions" in failed.message


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, {"message": "bad key"}, FailureKind.AUTH),
        (429, {"message": "slow down"}, FailureKind.RATE_LIMIT),
        (429, {"message": "x", "code": "insufficient_quota"}, FailureKind.BILLING),
        (400, {"message": "no such dimension", "param": "dimensions"}, FailureKind.BAD_REQUEST),
        (503, {"message": "later"}, FailureKind.OVERLOADED),
        (404, {"message": "no such path"}, FailureKind.BAD_RESPONSE),
    ],
)
async def test_a_refusal_has_its_kind(
    provider: FakeProvider,
    embedder: OpenAIEmbeddings,
    status: int,
    error: dict[str, str],
    kind: FailureKind,
) -> None:
    provider.will(answering({"error": error}, status))
    failed = await failure(embedder, request(provider.base_url))

    assert (failed.kind, failed.status) == (kind, status)
    assert KEY not in f"{failed.message} {failed.detail}"
    if kind is FailureKind.BAD_REQUEST:
        assert failed.param == "dimensions"


async def test_an_error_with_a_success_status_is_an_error(
    provider: FakeProvider, embedder: OpenAIEmbeddings
) -> None:
    provider.will(answering({"error": {"message": "slow down", "code": 429}}))

    assert (await failure(embedder, request(provider.base_url))).kind is FailureKind.RATE_LIMIT


async def test_an_answer_that_is_too_long_is_not_read(
    provider: FakeProvider, embedder: OpenAIEmbeddings
) -> None:
    provider.will(answering(listed([0.125] * 1_000)))
    failed = await failure(embedder, request(provider.base_url, max_answer_bytes=1_000))

    assert failed.kind is FailureKind.BAD_RESPONSE
    assert "maxAnswerBytes" in failed.message


async def test_a_provider_that_is_not_there_is_unreachable(embedder: OpenAIEmbeddings) -> None:
    assert (await failure(embedder, request("http://127.0.0.1:9/v1"))).kind is (
        FailureKind.UNREACHABLE
    )
    await embedder.close()
    closed = await failure(embedder, request("http://127.0.0.1:9/v1"))
    assert "shutting down" in closed.message


async def test_a_cancelled_call_closes_its_connection(
    provider: FakeProvider, embedder: OpenAIEmbeddings
) -> None:
    provider.will(fake.hang())
    task = asyncio.create_task(embedder.embed(request(provider.base_url)))
    sent = await provider.arrival()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await sent.disconnected.wait()
