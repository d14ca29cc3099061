"""The official Python client against a running Gateway; prints what it saw as one JSON object."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello there"}]


def sync_answer(client: OpenAI) -> dict[str, Any]:
    answer = client.chat.completions.create(model="opensoul:main", messages=HELLO)
    usage = answer.usage
    assert usage is not None
    return {
        "text": answer.choices[0].message.content,
        "finish": answer.choices[0].finish_reason,
        "model": answer.model,
        "total": usage.total_tokens,
    }


def sync_stream(client: OpenAI) -> dict[str, Any]:
    chunks = list(
        client.chat.completions.create(
            model="opensoul:main",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    return {
        "text": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
        "ids": len({c.id for c in chunks}),
        "finish": [c.choices[0].finish_reason for c in chunks if c.choices][-1],
        "total": chunks[-1].usage.total_tokens if chunks[-1].usage else None,
    }


async def async_both(url: str, key: str) -> dict[str, Any]:
    async with AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        answer = await client.chat.completions.create(model="opensoul", messages=HELLO)
        stream = await client.chat.completions.create(model="opensoul", messages=HELLO, stream=True)
        streamed = [c.choices[0].delta.content or "" async for c in stream]
    return {"text": answer.choices[0].message.content, "streamed": "".join(streamed)}


def errors(client: OpenAI, url: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    try:
        client.chat.completions.create(model="opensoul:nobody", messages=HELLO)
    except openai.NotFoundError as error:
        seen["unknown agent"] = [error.status_code, error.code, error.param]
    try:
        client.chat.completions.create(model="opensoul", messages=HELLO, temperature=3)
    except openai.BadRequestError as error:
        seen["bad temperature"] = [error.status_code, error.code, error.param]
    try:
        OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list()
    except openai.AuthenticationError as error:
        seen["wrong key"] = [error.status_code, error.code, error.type]
    return seen


def failing(client: OpenAI) -> dict[str, Any]:
    """The agent `flaky` stands on a provider that the test makes fail."""
    seen: dict[str, Any] = {}
    retrying = client.with_options(max_retries=2)
    answer = retrying.chat.completions.create(model="opensoul:flaky", messages=HELLO)
    seen["after retries"] = answer.choices[0].message.content
    try:
        for _ in client.chat.completions.create(
            model="opensoul:flaky", messages=HELLO, stream=True
        ):
            pass
    except openai.APIError as error:
        seen["broken stream"] = [type(error).__name__, error.message]
    return seen


def main() -> None:
    url, key = os.environ["GATEWAY_URL"] + "/v1", os.environ["GATEWAY_TOKEN"]
    with OpenAI(base_url=url, api_key=key, max_retries=0) as client:
        seen = {
            "models": [model.id for model in client.models.list()],
            "model": client.models.retrieve("opensoul/main").id,
            "sync": sync_answer(client),
            "stream": sync_stream(client),
            "async": asyncio.run(async_both(url, key)),
            "errors": errors(client, url),
            "failing": failing(client),
        }
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
