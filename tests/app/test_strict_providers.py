"""Providers that check a conversation strictly, and answers that are empty by a provider's word."""

from __future__ import annotations

from pathlib import Path
from time import time

import pytest
from dependency_injector import providers

from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.messages import Message, Reasoning, Role, Text, ToolCall, text_message
from opensoul.domain.ports import Turn
from opensoul.domain.sessions.keys import SessionKey
from tests.app.serving import Served, config, serving
from tests.app.serving import provider as fake
from tests.fakes import behaviours
from tests.fakes.openai import strict
from tests.fakes.provider import FakeProvider


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_empty_answer_is_a_200_and_the_session_goes_on(
    tmp_path: Path, reason: str
) -> None:
    nothing = behaviours.answer(finish_reason=reason, reasoning=["hm"])
    both = {"agents": {"defaults": {"model": {"primary": "fake/m", "fallbacks": ["fake/n"]}}}}
    async with FakeProvider(strict(behaviours.answer("Fine."))) as provider:
        content = config(provider.base_url, **both) | {
            "models": {"providers": {"fake": fake(provider.base_url, "m", "n")}}
        }
        async with serving(tmp_path, content) as served:
            await served.text(user="alice", messages=[user("one")])
            provider.will(strict(nothing))
            async with served.ask(user="alice", messages=[user("two")]) as response:
                (choice,) = (await response.json())["choices"]
            third = await served.text(user="alice", messages=[user("three")])

    assert (response.status, choice["finish_reason"]) == (200, reason)
    assert choice["message"]["content"] == ""
    assert third == "Fine."
    # No cooldown: the fallback was never called.
    assert [request.json["model"] for request in provider.requests] == ["m"] * 3
    assert provider.requests[-1].json["messages"] == [
        user("one"),
        {"role": "assistant", "content": "Fine."},
        user("two\nthree"),
    ]


async def test_an_empty_answer_is_streamed_with_its_finish_reason(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(behaviours.answer(finish_reason="length"))
    async with served.ask(stream=True) as response:
        body = await response.text()

    assert response.status == 200
    assert '"finish_reason":"length"' in body
    assert "error" not in body


async def test_a_session_that_was_stored_with_faults_goes_on(tmp_path: Path) -> None:
    key = SessionKey("main", "openai:old")
    old = (
        text_message(Role.USER, "one"),
        Message(Role.ASSISTANT, (Reasoning("hm"), Text(""))),
        text_message(Role.USER, "two"),
        Message(Role.ASSISTANT, (ToolCall("1", "add", "{}"),)),
        text_message(Role.USER, "three"),
        Message(Role.TOOL, (Text("42"),), tool_call_id="2"),
        text_message(Role.ASSISTANT, "yes"),
    )
    store = SqliteStore(tmp_path / "sessions.sqlite3")
    await store.open()
    await store.append(Turn(key, "id-1", "run-1", time(), old))
    await store.close()
    async with (
        FakeProvider(strict(behaviours.answer("Fine."))) as provider,
        serving(tmp_path, config(provider.base_url), store=providers.Object(store)) as served,
    ):
        session = {"x-opensoul-session-key": str(key)}
        assert await served.text(session, messages=[user("four")]) == "Fine."

    assert provider.requests[0].json["messages"] == [
        user("one\ntwo\nthree"),
        {"role": "assistant", "content": "yes"},
        user("four"),
    ]


async def test_a_resent_conversation_with_faults_is_answered(tmp_path: Path) -> None:
    conversation = [user("one"), {"role": "assistant", "content": ""}, user("two")]
    async with (
        FakeProvider(strict(behaviours.answer("Fine."))) as provider,
        serving(tmp_path, config(provider.base_url)) as served,
    ):
        assert await served.text(messages=conversation) == "Fine."
