"""Compacted conversations, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.transports.openai.responses.summaries import content_of, summary_in
from tests.app.keyed import created, provider
from tests.app.serving import Served, serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

from .stateful import call, content, refused, respond, said

__all__ = ["provider"]
COMPACT = "/v1/responses/compact"
TALK = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "two"},
]


@pytest.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with serving(tmp_path, content(provider)) as served:
        yield served


async def compacted(served: Served, **body: Any) -> list[dict[str, Any]]:
    """The output."""
    status, answered = await call(served, "POST", COMPACT, {"model": "opensoul", **body})
    assert status == 200, answered
    assert answered["object"] == "response.compaction"
    assert answered["usage"]["total_tokens"] > 0
    return list(answered["output"])


async def test_a_conversation_goes_on_from_its_questions_and_a_summary(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(answer("They counted to two."))
    output = await compacted(served, input=TALK, instructions="Keep all numbers.")

    (asked,) = said(provider.requests[-1])
    assert "[User] one\n\n[Assistant] 1\n\n[User] two" in asked
    assert "Keep all numbers." in asked
    assert [item["type"] for item in output] == ["message", "message", "compaction"]
    await respond(served, [*output, {"role": "user", "content": "three"}])
    texts = said(provider.requests[-1])
    assert texts[:2] == ["one", "two"]
    assert "They counted to two." in texts[2]
    assert texts[-1] == "three"


async def test_a_stored_response_is_compacted_with_all_before_it(
    served: Served, provider: FakeProvider
) -> None:
    first = await respond(served, "one")
    second = await respond(served, "two", previous_response_id=first["id"])
    await respond(served, "other", previous_response_id=first["id"])
    provider.will(answer("A short talk."))

    output = await compacted(served, previous_response_id=second["id"])

    (asked,) = said(provider.requests[-1])
    assert "[User] one\n\n[Assistant] Hello!\n\n[User] two\n\n[Assistant] Hello!\n" in asked
    assert "other" not in asked
    assert [item["content"][0]["text"] for item in output[:-1]] == ["one", "two"]
    await respond(served, "three", previous_response_id=second["id"])
    assert said(provider.requests[-1]) == ["one", "Hello!", "two", "Hello!", "three"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": 1}, 400, "input"),
        ({"input": "x", "model": 1}, 400, "model"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, 400, "input[0]"),
        ({"previous_response_id": "resp_none"}, 404, "previous_response_id"),
    ],
)
async def test_what_is_wrong_is_named(
    served: Served, body: dict[str, Any], status: int, param: str
) -> None:
    answered = await call(served, "POST", COMPACT, body)

    assert (answered[0], answered[1]["error"]["param"]) == (status, param)


async def test_another_key_cannot_compact_a_response(served: Served) -> None:
    mine, other = [await created(served, name) for name in ("mine", "other")]
    first = await respond(served, secret=mine)
    body = {"previous_response_id": first["id"]}

    assert (await call(served, "POST", COMPACT, body, secret=other))[0] == 404
    assert (await call(served, "POST", COMPACT, body, secret=mine))[0] == 200


@pytest.mark.parametrize("encrypted", ["gAAAAABo", "opensoul-1:%%", "opensoul-1:\u20ac", ""])
async def test_a_summary_of_another_service_is_refused(served: Served, encrypted: str) -> None:
    item = {"type": "compaction", "encrypted_content": encrypted}

    error = await refused(served, 400, [item, {"role": "user", "content": "Hi"}])

    assert error["param"] == "input[0].encrypted_content"


@pytest.mark.parametrize("summary", ["", "They spoke.", "\u4f60\u597d", "half \ud83d"])
def test_a_summary_comes_back_as_it_was(summary: str) -> None:
    assert summary_in(content_of(summary)) == summary


@pytest.mark.parametrize("path", [COMPACT, "/v1/responses/input_tokens"])
async def test_a_path_of_its_own_is_no_response(served: Served, path: str) -> None:
    for method, status, allowed in (
        ("GET", 405, "POST"),
        ("DELETE", 405, "POST"),
        ("OPTIONS", 204, "POST, OPTIONS"),
    ):
        async with served.client.request(method, path, headers=served.authorization) as response:
            assert (response.status, response.headers["Allow"]) == (status, allowed)
