"""OpenAI's own client against the real application: stored responses and conversations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI

from tests.app.keyed import provider
from tests.app.serving import SECRET, Served, serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

from .stateful import content, said

__all__ = ["provider"]


@pytest.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with serving(tmp_path, content(provider)) as served:
        yield served


@pytest.fixture
async def client(served: Served) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=SECRET, max_retries=0) as client:
        yield client


async def test_a_response_goes_on_is_retrieved_and_deleted(
    client: AsyncOpenAI, provider: FakeProvider
) -> None:
    first = await client.responses.create(model="opensoul", input="one")
    second = await client.responses.create(
        model="opensoul", input="two", previous_response_id=first.id
    )
    assert said(provider.requests[-1]) == ["one", "Hello!", "two"]

    found = await client.responses.retrieve(second.id)
    assert (found.output_text, found.previous_response_id) == ("Hello!", first.id)
    items = [item async for item in client.responses.input_items.list(second.id, order="asc")]
    assert [item.type for item in items] == ["message"]
    await client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(second.id)


async def test_input_items_are_listed_page_by_page(client: AsyncOpenAI) -> None:
    texts = [str(number) for number in range(5)]
    response = await client.responses.create(
        model="opensoul", input=[{"role": "user", "content": text} for text in texts]
    )

    pages = client.responses.input_items.list(response.id, order="asc", limit=2)

    listed = [item.model_dump()["content"][0]["text"] async for item in pages]
    assert listed == texts


async def test_a_response_in_the_background_is_awaited(
    client: AsyncOpenAI, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    response = await client.responses.create(model="opensoul", input="one", background=True)
    assert response.status in ("queued", "in_progress")
    await provider.arrival()
    gate.set()

    stream = await client.responses.retrieve(response.id, stream=True, starting_after=1)
    events = [event async for event in stream]

    assert events[0].sequence_number == 2
    assert events[-1].type == "response.completed"
    assert (await client.responses.retrieve(response.id)).output_text == "Hello!"


async def test_a_response_in_the_background_is_cancelled(
    client: AsyncOpenAI, provider: FakeProvider
) -> None:
    provider.will(answer("Hel", "lo!", gate=asyncio.Event()))
    response = await client.responses.create(model="opensoul", input="one", background=True)
    await provider.arrival()

    assert (await client.responses.cancel(response.id)).status == "cancelled"


async def test_a_conversation_is_begun_used_and_deleted(
    client: AsyncOpenAI, provider: FakeProvider
) -> None:
    conversation = await client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "My name is Ann."}],
        metadata={"topic": "demo"},
    )
    await client.responses.create(model="opensoul", input="one", conversation=conversation.id)
    assert said(provider.requests[-1]) == ["My name is Ann.", "one"]

    items = client.conversations.items
    listed = [item async for item in items.list(conversation.id, order="asc", limit=1)]
    assert [item.type for item in listed] == ["message"] * 3
    added = await items.create(
        conversation.id, items=[{"type": "message", "role": "user", "content": "two"}]
    )
    item = await items.retrieve(str(added.data[0].id), conversation_id=conversation.id)
    assert item == added.data[0]
    await items.delete(str(item.id), conversation_id=conversation.id)
    updated = await client.conversations.update(conversation.id, metadata={"topic": "end"})
    assert updated.metadata == {"topic": "end"}
    assert (await client.conversations.retrieve(conversation.id)).metadata == {"topic": "end"}
    assert (await client.conversations.delete(conversation.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(conversation.id)


async def test_input_tokens_are_counted(client: AsyncOpenAI, provider: FakeProvider) -> None:
    short = await client.responses.input_tokens.count(model="opensoul", input="Hi")
    long = await client.responses.input_tokens.count(
        model="opensoul", input="Hi", instructions="word " * 400
    )
    assert (short.object, short.input_tokens > 0) == ("response.input_tokens", True)
    assert 300 < long.input_tokens - short.input_tokens < 900
    assert provider.requests == []

    first = await client.responses.create(model="opensoul", input="word " * 400)
    after = await client.responses.input_tokens.count(
        model="opensoul", input="Hi", previous_response_id=first.id
    )
    assert 300 < after.input_tokens - short.input_tokens < 900
    conversation = await client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "word " * 400}]
    )
    within = await client.responses.input_tokens.count(
        model="opensoul", input="Hi", conversation=conversation.id
    )
    assert 300 < within.input_tokens - short.input_tokens < 900
    items = await client.conversations.items.list(conversation.id)
    assert len(items.data) == 1
    assert len(provider.requests) == 1


async def test_what_is_not_found_is_not_counted(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.responses.input_tokens.count(
            model="opensoul", input="Hi", previous_response_id="resp_unknown"
        )
    assert caught.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.input_tokens.count(model="opensoul", extra_body={"input": 5})
    assert refused.value.param == "input"
