"""The rules of every answer: approvals, repeated requests, answers that go on, keys."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.app.serving import SECRET, Served
from tests.approvals.office import ARGUMENTS, calls, open_office
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

from .client import RESPONSES, text_of
from .test_official_client import GATEWAY, client, provider, served

__all__ = ["client", "provider", "served"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_asks_for_an_approval_and_the_next_message_decides(
    tmp_path: Path, provider: FakeProvider, stream: bool
) -> None:
    sections = {"gateway": {**GATEWAY, "auth": {"token": SECRET, "authenticators": ["proxy"]}}}
    async with (
        open_office(tmp_path, provider, sections=sections) as office,
        AsyncOpenAI(base_url=f"{office.served.url}/v1", api_key=SECRET, max_retries=0) as client,
    ):

        async def ask(text: str) -> Any:
            if not stream:
                return await client.responses.create(model="opensoul", input=text, user="ann")
            async with client.responses.stream(
                model="opensoul", input=text, user="ann"
            ) as streamed:
                return await streamed.get_final_response()

        provider.will(calls(), answer("It is sent."))
        asked = await ask("Send it.")
        found = re.search(r"^approve (\S+)$", asked.output_text, re.MULTILINE)
        assert found is not None
        assert asked.status == "completed"
        assert office.courier.sent == []

        approved = await ask(f"approve {found[1]}")
        assert approved.output_text == "It is sent."
        assert office.courier.sent == [ARGUMENTS]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeated_request_gets_the_same_response(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    headers = {**served.authorization, "Idempotency-Key": "one"}
    provider.will(answer("Hello ", "there"))

    found = []
    for _ in range(2):
        body = {"input": "Hi", "stream": stream}
        async with served.client.post(RESPONSES, json=body, headers=headers) as reply:
            text = await reply.text()
        assert reply.status == 200, text
        last = text.split("\n\n")[-3].partition("data: ")[2] if stream else text
        response = json.loads(last)
        found.append(response["response"] if stream else response)
    first, again = found
    assert first["id"] == again["id"]
    assert first["created_at"] == again["created_at"]
    assert text_of(first) == text_of(again) == "Hello there"
    assert len(provider.requests) == 1


async def test_an_answer_goes_on_without_its_client_where_that_is_asked_for(
    served: Served, provider: FakeProvider
) -> None:
    going_on = asyncio.Event()

    provider.will(answer("Hello", " there", gate=going_on))
    headers = {**served.authorization, "x-opensoul-on-disconnect": "continue"}
    body = {"input": "Hi", "stream": True, "user": "ann"}
    async with served.client.post(RESPONSES, json=body, headers=headers) as reply:
        await reply.content.readuntil(b'"Hello"')
    going_on.set()

    body = {"input": "Go on", "user": "ann"}
    async with served.client.post(RESPONSES, json=body, headers=served.authorization) as reply:
        assert reply.status == 200
    sent = [m["content"] for m in provider.requests[-1].json["messages"] if m["role"] != "system"]
    assert sent == ["Hi", "Hello there", "Go on"]


async def test_its_runs_are_listed_where_chat_completions_are_off(
    served: Served, provider: FakeProvider
) -> None:
    body = {"input": "Hi"}
    async with served.client.post(RESPONSES, json=body, headers=served.authorization) as reply:
        run = reply.headers["x-opensoul-run-id"]
    async with served.client.get("/v1/runs", headers=served.authorization) as reply:
        assert [one["id"] for one in (await reply.json())["data"]] == [run]


async def test_a_request_needs_a_key_that_is_known(served: Served) -> None:
    async with served.client.post(RESPONSES, json={"input": "Hi"}) as reply:
        assert reply.status == 401
    wrong = {"Authorization": "Bearer sk-wrong"}
    async with served.client.post(RESPONSES, json={"input": "Hi"}, headers=wrong) as reply:
        assert reply.status == 401
        assert (await reply.json())["error"]["code"] == "invalid_api_key"
