"""OpenAI's own Python client against a served Gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI

from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models.calls import TextDelta

from .app import HELLO, TOKEN, Harness


@pytest.fixture
async def official(gateway: Harness) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=gateway.url + "/v1", api_key=TOKEN) as client:
        yield client


async def test_a_whole_answer(official: AsyncOpenAI) -> None:
    answer = await official.chat.completions.create(
        model="opensoul:beta", messages=[{"role": "user", "content": "Hi"}]
    )

    assert answer.choices[0].message.content == "Hello"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 9
    assert answer._request_id is not None


async def test_a_stream(official: AsyncOpenAI) -> None:
    text, usage = "", None
    stream = await official.chat.completions.create(
        model="opensoul",
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage

    assert text == "Hello"
    assert usage is not None
    assert usage.total_tokens == 9


async def test_a_stream_that_breaks_raises(gateway: Harness, official: AsyncOpenAI) -> None:
    broken = ModelFailed(FailureKind.BAD_RESPONSE, "The stream was cut.")
    gateway.model.script = (TextDelta("Hel"), broken)
    stream = await official.chat.completions.create(
        model="opensoul", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    texts: list[str | None] = []

    async def read() -> None:
        async for chunk in stream:
            texts.append(chunk.choices[0].delta.content)

    with pytest.raises(openai.APIError, match=r"The stream was cut\.") as raised:
        await read()

    assert texts == ["", "Hel"]
    assert raised.value.code == "provider_bad_response"


async def test_errors_are_typed(gateway: Harness, official: AsyncOpenAI) -> None:
    create = official.with_options(max_retries=0).chat.completions.create
    with pytest.raises(openai.NotFoundError) as unknown:
        await create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as invalid:
        await create(model="opensoul", messages=[], temperature=9)
    assert invalid.value.param == "temperature"
    stranger = official.with_options(api_key="wrong")
    with pytest.raises(openai.AuthenticationError):
        await stranger.models.list()
    gateway.model.script = (ModelFailed(FailureKind.RATE_LIMIT, "Slow."),)
    with pytest.raises(openai.RateLimitError):
        await create(model="opensoul", messages=[{"role": "user", "content": "Hi"}])


async def test_what_no_retry_can_mend_is_asked_for_once(
    gateway: Harness, official: AsyncOpenAI
) -> None:
    gateway.model.script = (ModelFailed(FailureKind.AUTH, "The key is refused."),)

    with pytest.raises(openai.InternalServerError):
        await official.chat.completions.create(
            model="opensoul", messages=[{"role": "user", "content": "Hi"}]
        )

    assert len(gateway.model.seen) == 1


async def test_the_models(official: AsyncOpenAI) -> None:
    names = [model.id async for model in official.models.list()]

    assert "opensoul/beta" in names
    assert (await official.models.retrieve("opensoul/beta")).id == "opensoul/beta"


async def test_structured_output(gateway: Harness, official: AsyncOpenAI) -> None:
    gateway.model.script = (TextDelta('{"ok": true}'), HELLO[-1])
    answer = await official.chat.completions.create(
        model="opensoul",
        messages=[{"role": "user", "content": "Hi"}],
        response_format={"type": "json_object"},
    )

    assert answer.choices[0].message.content == '{"ok": true}'
    assert gateway.model.seen[0].params["response_format"] == {"type": "json_object"}
