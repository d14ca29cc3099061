"""Sessions as clients know them: who comes back is known, who does not say who is new."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from tests.app.serving import HELLO, SECRET, Served, config, serving
from tests.app.serving import provider as fake
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider


def said(provider: FakeProvider) -> list[tuple[str, str]]:
    """What the provider was last sent: roles and texts."""
    messages = provider.requests[-1].json["messages"]
    return [(message["role"], message["content"]) for message in messages]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def test_the_second_turn_of_a_user_knows_the_first(
    served: Served, provider: FakeProvider
) -> None:
    await served.text(user="alice", messages=[user("I am Alice.")])
    await served.text(user="alice", messages=[user("Who am I?")])

    assert said(provider) == [
        ("user", "I am Alice."),
        ("assistant", "Hello!"),
        ("user", "Who am I?"),
    ]


async def test_a_client_that_resends_its_history_has_it_stored_once(
    served: Served, provider: FakeProvider
) -> None:
    history = [user("one")]
    for text in ("two", "three"):
        reply = await served.text(user="alice", messages=history)
        history += [{"role": "assistant", "content": reply}, user(text)]
    await served.text(user="alice", messages=history)

    assert [text for role, text in said(provider) if role == "user"] == ["one", "two", "three"]


async def test_without_user_or_key_nothing_is_remembered(
    served: Served, provider: FakeProvider
) -> None:
    keys = set()
    for _ in range(2):
        async with served.ask() as response:
            keys.add(response.headers["x-opensoul-session-key"])
    assert len(keys) == 2
    assert said(provider) == [("user", "hello")]


async def test_a_session_key_is_taken_as_it_is(served: Served, provider: FakeProvider) -> None:
    key = {"x-opensoul-session-key": "agent:main:openai:custom"}
    async with served.ask(key, messages=[user("first")]) as response:
        assert response.headers["x-opensoul-session-key"] == "agent:main:openai:custom"
    await served.text({"x-opensoul-session-key": "openai:custom"}, messages=[user("second")])

    assert said(provider)[0] == ("user", "first")


async def test_a_session_outlives_the_gateway(tmp_path: Path, provider: FakeProvider) -> None:
    content = config(provider.base_url)
    async with serving(tmp_path, content) as served:
        await served.text(user="alice", messages=[user("Remember me.")])
    async with serving(tmp_path, content) as served:
        await served.text(user="alice", messages=[user("Well?")])

    assert said(provider)[0] == ("user", "Remember me.")


async def test_a_memory_store_forgets_with_the_process(
    tmp_path: Path, provider: FakeProvider
) -> None:
    content = config(provider.base_url, session={"store": ":memory:"})
    async with serving(tmp_path, content) as served:
        await served.text(user="alice", messages=[user("Remember me.")])
        await served.text(user="alice", messages=[user("Well?")])
        assert said(provider)[0] == ("user", "Remember me.")
    async with serving(tmp_path, content) as served:
        await served.text(user="alice")

    assert said(provider) == [("user", "hello")]
    assert not (tmp_path / "state" / "opensoul.sqlite3").exists()


async def test_an_idle_session_starts_over_and_the_old_one_is_kept(
    tmp_path: Path, provider: FakeProvider
) -> None:
    now = [1_000_000.0]
    from dependency_injector import providers

    content = config(provider.base_url, session={"reset": {"mode": "idle", "idleMinutes": 30}})
    async with serving(tmp_path, content, clock=providers.Object(lambda: now[0])) as served:
        await served.text(user="alice", messages=[user("before")])
        now[0] += 29 * 60
        await served.text(user="alice", messages=[user("still there?")])
        assert said(provider)[0] == ("user", "before")
        now[0] += 31 * 60
        await served.text(user="alice", messages=[user("after")])

    assert said(provider) == [("user", "after")]
    with sqlite3.connect(tmp_path / "state" / "opensoul.sqlite3") as store:
        stored = store.execute("SELECT count(*) FROM messages").fetchone()[0]
    store.close()
    assert stored == 6


async def test_history_is_cut_to_the_models_window_and_the_question_never(
    tmp_path: Path, provider: FakeProvider
) -> None:
    small = fake(provider.base_url)
    small["models"] = [{"id": "m", "contextWindow": 1_000, "maxTokens": 100}]
    async with serving(
        tmp_path, config(provider.base_url, models={"providers": {"fake": small}})
    ) as served:
        for number in range(10):
            await served.text(user="alice", messages=[user(f"{number}: " + "word " * 100)])
        long = "question " * 2_000
        await served.text(user="bob", messages=[user(long)])
        question = said(provider)
        await served.text(user="alice", messages=[user("last")])

    assert question == [("user", long)]
    sent = said(provider)
    assert sent[-1] == ("user", "last")
    assert sent[0][0] == "user"
    assert 1 < len(sent) < 21


async def test_agents_speak_with_their_own_instructions_and_the_requests_after_them(
    tmp_path: Path, provider: FakeProvider
) -> None:
    agents: dict[str, Any] = {
        "defaults": {"model": {"primary": "fake/m"}},
        "list": [{"id": "main"}, {"id": "beta", "instructions": "You are beta."}],
    }
    async with serving(tmp_path, config(provider.base_url, agents=agents)) as served:
        messages = [{"role": "developer", "content": "Be brief."}, *HELLO]
        async with served.ask(model="opensoul:beta", messages=messages) as response:
            assert response.headers["x-opensoul-agent-id"] == "beta"
            assert (await response.json())["model"] == "opensoul:beta"

    assert said(provider)[0] == ("system", "You are beta.\n\nBe brief.")


async def test_sessions_run_side_by_side_and_each_in_its_order(
    served: Served, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("slow", " one", gate=gate))
    slow = asyncio.create_task(served.text(user="alice"))
    await provider.arrival()

    assert await served.text(user="bob") == "Hello!"
    gate.set()
    assert await slow == "slow one"


async def test_parameters_reach_the_provider_under_their_names(
    served: Served, provider: FakeProvider
) -> None:
    asked: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 50,
        "stop": ["END"],
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": -0.1,
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
        "metadata": {"purpose": "test"},
        "logit_bias": {"50256": -100},
        "service_tier": "auto",
    }
    provider.will(answer("{}"))
    await served.text(**asked)

    sent = provider.requests[-1].json
    assert {name: sent[name] for name in asked} == asked
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}
    assert "user" not in sent
    assert SECRET not in provider.requests[-1].body.decode()
