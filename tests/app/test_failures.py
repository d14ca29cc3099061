"""Whatever a provider does wrong is told as what it is, streamed or not, and never as success."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.app.serving import Served, config, serving
from tests.app.serving import provider as fake
from tests.fakes.behaviours import (
    Behaviour,
    Exchange,
    answer,
    chunk,
    cut,
    error_in_stream,
    fail,
    garbage,
    hang,
    hang_after,
    html,
    no_finish,
)
from tests.fakes.provider import FakeProvider

QUOTA = {"error": {"message": "no credit", "code": "insufficient_quota"}}
TOO_LONG = {"error": {"message": "too long", "code": "context_length_exceeded"}}
OVERLOADED = {"message": "too much to do", "type": "overloaded_error", "code": None}
BAD_FIELD = {"error": {"message": "no such effort", "param": "reasoning_effort"}}


@dataclass(frozen=True)
class Case:
    """What the provider does before its first word, and what the client is told."""

    behaviour: Behaviour
    status: int
    code: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    param: str | None = None


BEFORE_THE_FIRST_WORD = {
    "bad request": Case(fail(400, BAD_FIELD), 400, param="reasoning_effort"),
    "context too long": Case(fail(400, TOO_LONG), 400, "context_length_exceeded"),
    "wrong key": Case(fail(401), 502),
    "no credit": Case(fail(402), 502),
    "forbidden": Case(fail(403), 502),
    "unknown model": Case(fail(404), 502),
    "request timeout": Case(fail(408), 504),
    "rate limit": Case(
        fail(429, headers={"Retry-After": "7"}), 429, headers=(("Retry-After", "7"),)
    ),
    "quota": Case(fail(429, QUOTA), 502),
    "internal error": Case(fail(500), 502),
    "bad gateway": Case(fail(502), 502),
    "unavailable": Case(fail(503), 502),
    "gateway timeout": Case(fail(504), 504),
    "overloaded": Case(fail(529), 502),
    "a page instead of an answer": Case(html(), 502),
    "garbage": Case(garbage(), 502),
    "cut before a word": Case(cut(), 502),
    "ended without a word": Case(no_finish(), 502),
    "an error event": Case(error_in_stream(error=OVERLOADED), 502),
    "silence": Case(hang(), 504),
    "silence after the headers": Case(hang_after(), 504),
}

AFTER_SOME_WORDS = {
    "connection reset": cut("half an"),
    "connection closed": cut("half an", politely=True),
    "ended early": no_finish("half an"),
    "an error event": error_in_stream("half an", error=OVERLOADED),
    "silence": hang_after("half an"),
}


def impatient(provider_url: str) -> dict[str, Any]:
    """A configuration that waits 0.3 s for a silent provider."""
    hasty = fake(provider_url, idleTimeoutSeconds=0.3)
    return config(provider_url, models={"providers": {"fake": hasty}})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", BEFORE_THE_FIRST_WORD)
async def test_a_failure_before_the_first_word_is_a_real_status(
    tmp_path: Path, provider: FakeProvider, name: str, stream: bool
) -> None:
    case = BEFORE_THE_FIRST_WORD[name]
    provider.default = case.behaviour

    async with (
        serving(tmp_path, impatient(provider.base_url)) as served,
        served.ask(stream=stream, reasoning_effort="high") as response,
    ):
        body = await response.json()

    assert response.status == case.status
    assert response.headers["x-opensoul-run-id"]
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["param"] == case.param
    if case.code is not None:
        assert error["code"] == case.code
    for header, value in case.headers:
        assert response.headers[header] == value
    assert len(provider.requests) == 1, "the Gateway itself retries nothing"


@pytest.mark.parametrize("name", AFTER_SOME_WORDS)
async def test_a_failure_after_some_words_ends_the_stream_with_an_error(
    tmp_path: Path, provider: FakeProvider, name: str
) -> None:
    provider.default = AFTER_SOME_WORDS[name]

    async with (
        serving(tmp_path, impatient(provider.base_url)) as served,
        served.ask(stream=True) as response,
    ):
        sent = await response.text()

    events = [line[6:] for line in sent.splitlines() if line.startswith("data: ")]
    assert "[DONE]" not in events
    error = json.loads(events[-1])["error"]
    assert error["message"]
    assert error["type"]
    assert error["code"]
    for event in events[:-1]:
        assert json.loads(event)["choices"][0]["finish_reason"] is None


@pytest.mark.parametrize("name", AFTER_SOME_WORDS)
async def test_a_failure_after_some_words_is_no_answer_without_streaming(
    tmp_path: Path, provider: FakeProvider, name: str
) -> None:
    provider.default = AFTER_SOME_WORDS[name]

    async with (
        serving(tmp_path, impatient(provider.base_url)) as served,
        served.ask() as response,
    ):
        body = await response.json()

    assert response.status in (502, 504)
    assert set(body) == {"error"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_nobody_at_the_providers_address_is_a_502(tmp_path: Path, stream: bool) -> None:
    async with (
        serving(tmp_path, config("http://127.0.0.1:9/v1")) as served,
        served.ask(stream=stream) as response,
    ):
        body = await response.json()

    assert response.status == 502
    assert "fake" in body["error"]["message"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_run_past_its_time_is_a_504(
    tmp_path: Path, provider: FakeProvider, stream: bool
) -> None:
    provider.default = hang()
    defaults = {"model": {"primary": "fake/m"}, "timeoutSeconds": 1}

    async with (
        serving(tmp_path, config(provider.base_url, agents={"defaults": defaults})) as served,
        served.ask(stream=stream) as response,
    ):
        body = await response.json()

    assert (response.status, body["error"]["code"]) == (504, "run_timeout")


async def test_nothing_of_a_failed_run_is_remembered(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(cut("half an"), answer("whole"))
    async with served.ask(user="alice") as response:
        assert response.status == 502

    assert await served.text(user="alice") == "whole"

    said = [message["content"] for message in provider.requests[-1].json["messages"]]
    assert said == ["hello"]


async def test_an_answer_without_an_end_is_a_failed_turn_whose_words_stay_told(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head()
        while True:
            await exchange.event(chunk({"content": "on and "}))

    provider.will(endless, answer("whole"))
    bounded = fake(provider.base_url, maxAnswerBytes=100_000)
    content = config(provider.base_url, models={"providers": {"fake": bounded}})
    async with serving(tmp_path, content) as served:
        async with served.ask(stream=True, user="alice") as response:
            sent = await response.text()
        assert await served.text(user="alice") == "whole"

    *before, last = [line[6:] for line in sent.splitlines() if line.startswith("data: ")]
    said = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in before]
    assert "".join(said) == "on and " * (len("".join(said)) // 7) != ""
    error = json.loads(last)["error"]
    assert error["code"] == "provider_bad_response"
    assert "longer than 100000 bytes (models.providers.fake.maxAnswerBytes)" in error["message"]
    remembered = [message["content"] for message in provider.requests[-1].json["messages"]]
    assert remembered == ["hello"]
    assert provider.requests[0].disconnected.is_set()


async def test_a_fallback_answers_before_the_first_word(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with FakeProvider(fail(503)) as broken:
        content = config(
            agents={"defaults": {"model": {"primary": "broken/m", "fallbacks": ["fake/m"]}}},
            models={
                "providers": {
                    "broken": fake(broken.base_url),
                    "fake": fake(provider.base_url),
                }
            },
        )
        async with serving(tmp_path, content) as served:
            assert await served.text() == "Hello!"
            assert await served.text() == "Hello!"

        assert len(broken.requests) == 1, "it is behind its fallback for a while"
        assert len(provider.requests) == 2
