"""Side tasks of chat clients, such as titles: outside of every session, without tools."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from opensoul.domain.messages import Message, Role, Text
from opensoul.domain.side_tasks import SIDE_TASK_PATTERNS, side_task_in
from tests.app.serving import SECRET, Served, config, serving
from tests.app.serving import provider as fake
from tests.control.client import connected
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

CHAT = {"X-OpenWebUI-Chat-Id": "54b9fbfb-0000-4000-8000-1249ec857100"}
KIND, KEY, BY = (f"x-opensoul-{name}" for name in ("side-task", "session-key", "session-bound-by"))
HISTORY = "\n### Chat History:\n<chat_history>\nUSER: Hi\nASSISTANT: Hello!\n</chat_history>"
TITLE = "### Task:\nWrite a concise title with an emoji for the chat.\n### Guidelines:\n- Short."
TAGS = "### Task:\nGenerate 1-3 broad tags for the chat.\n\n### Guidelines:\n- Title case."
FOLLOW_UPS = "### Task:\nPredict 3-5 useful messages this user might naturally send next."
TOOL = {"type": "function", "function": {"name": "time", "parameters": {"type": "object"}}}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def task(text: str) -> dict[str, Any]:
    """The body of a side task as Open WebUI sends it."""
    return {"messages": [user(text + HISTORY)], "stream": False}


def content(provider: FakeProvider, **defaults: Any) -> dict[str, Any]:
    agents = {"defaults": {"model": {"primary": "fake/m"}, **defaults}}
    providers = {"providers": {"fake": fake(provider.base_url, "m", "small")}}
    tools = {"allow": ["read"]}
    return config(provider.base_url, agents=agents, models=providers, tools=tools)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (TITLE, "title"),
        (TAGS, "tags"),
        (FOLLOW_UPS, "follow-up"),
        ("### Task:\nSuggest 3-5 relevant follow-up questions or prompts.", "follow-up"),
        ("### Task:\nDecide whether search queries are needed.", "query"),
        ("### Task:\nDescribe an image for this chat.", "image-prompt"),
        ("### Task:\nYou are an autocompletion system.", "autocomplete"),
        ("### Task:\nSort the list.\n### Guidelines:\n- Title case.", "other"),
        (f"{SIDE_TASK_PATTERNS[1]} through a fitting emoji.", "emoji"),
        (f"{SIDE_TASK_PATTERNS[2]}, in title case.", "title"),
        (f"\n {TITLE}", "title"),
        ("Write a title for the chat.", ""),
        ("Hello! ### Task: a title", ""),
        ("", ""),
    ],
)
def test_the_text_says_which_task_it_is(text: str, kind: str) -> None:
    message = Message(Role.USER, (Text(text),))

    assert side_task_in([message], SIDE_TASK_PATTERNS) == kind
    assert side_task_in([message, message], SIDE_TASK_PATTERNS) == ""
    assert side_task_in([message], ()) == ""
    assert side_task_in([Message(Role.SYSTEM, (Text("x"),)), message], SIDE_TASK_PATTERNS) == kind


async def test_a_side_task_has_neither_session_nor_tools_nor_the_agents_prompt(
    tmp_path: Path, provider: FakeProvider
) -> None:
    whole = content(
        provider,
        sideTaskModel="fake/small",
        instructions="Be a pirate.",
        workspace=str(tmp_path / "workspace"),
    )
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "SOUL.md").write_text("A file of the workspace.")
    async with serving(tmp_path, whole) as served:
        await served.text(CHAT, messages=[user("Hi")])
        plain = provider.requests[-1].json
        assert (plain["model"], bool(plain["tools"])) == ("m", True)
        assert "A file of the workspace." in plain["messages"][0]["content"]

        async with served.ask(CHAT, **task(TITLE), max_tokens=1_000) as response:
            assert response.status == 200, await response.text()
            assert response.headers[KIND] == "title"
            assert response.headers[BY] == "none"
            own = response.headers[KEY]
        sent = provider.requests[-1].json
        assert sent["model"] == "small"
        assert sent["max_tokens"] == 1_000
        assert "tools" not in sent
        assert sent["messages"] == [user(TITLE + HISTORY)]

        async with served.ask(CHAT, messages=[user("And now?")]) as response:
            assert KIND not in response.headers
            assert response.headers[KEY] != own
        assert TITLE not in str(provider.requests[-1].json)


async def test_a_repeated_side_task_is_named_again(served: Served, provider: FakeProvider) -> None:
    headers = CHAT | {"Idempotency-Key": "title-1"}
    for _ in range(2):
        async with served.ask(headers, **task(TITLE)) as response:
            assert response.status == 200, await response.text()
            assert (response.headers[KIND], response.headers[BY]) == ("title", "none")
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"stream": True},
        {"tools": [TOOL]},
        {"messages": [user("Hi"), {"role": "assistant", "content": "Hello!"}, user(TITLE)]},
        {"messages": [user("Please: " + TITLE)]},
    ],
    ids=["streamed", "with tools", "in a conversation", "behind a text"],
)
async def test_what_only_resembles_a_side_task_is_none(
    served: Served, changes: dict[str, Any]
) -> None:
    async with served.ask(CHAT, **(task(TITLE) | changes)) as response:
        assert response.status == 200, await response.text()
        assert KIND not in response.headers
        assert response.headers[BY] == "x-openwebui-chat-id"


async def test_the_patterns_are_configured(tmp_path: Path, provider: FakeProvider) -> None:
    whole = content(provider)
    whole["session"] = {"sideTaskPatterns": ["Name this chat"]}
    async with serving(tmp_path, whole) as served:
        async with served.ask(CHAT, messages=[user("Name this chat with a title.")]) as response:
            assert response.headers[KIND] == "title"
        async with served.ask(CHAT, **task(TITLE)) as response:
            assert KIND not in response.headers


async def test_the_title_does_not_wait_for_the_answer_of_its_chat(
    served: Served, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate), answer("A title"))
    async with served.ask(CHAT, messages=[user("Hi")], stream=True) as streamed:
        await provider.arrival()
        assert await served.text(CHAT, **task(TITLE)) == "A title"
        assert not gate.is_set()
        gate.set()
        assert b"[DONE]" in await streamed.content.read()


async def test_a_chat_as_open_webui_has_it_is_one_session_without_its_side_tasks(
    served: Served, provider: FakeProvider
) -> None:
    provider.default = answer("An answer of the agent.")
    headers = CHAT | {"X-OpenWebUI-User-Id": "57feb891", "X-OpenWebUI-User-Role": "admin"}
    history: list[dict[str, Any]] = []
    keys, kinds = set(), []

    async def turn(*messages: dict[str, Any]) -> None:
        """One message of the user: the streamed answer, with the client's tools, and the tasks."""
        history.extend(messages)
        body = {"messages": history, "stream": True, "tools": [TOOL]}
        async with served.ask(headers, **body) as response:
            assert response.status == 200, await response.text()
            keys.add((response.headers[BY], response.headers[KEY]))
            assert b"[DONE]" in await response.content.read()
        history.append({"role": "assistant", "content": "An answer of the agent."})
        for text in (TITLE, TAGS, FOLLOW_UPS) if len(history) == 2 else (FOLLOW_UPS,):
            async with served.ask(headers, **task(text)) as response:
                kinds.append(response.headers[KIND])

    await turn(user("Hello, who are you?"))
    await turn(user("Second question about Lisbon"))
    await turn(user("Third question"))

    assert kinds == ["title", "tags", "follow-up", "follow-up", "follow-up"]
    ((by, key),) = keys
    assert by == "x-openwebui-chat-id"
    async with connected(served.client, SECRET) as peer:
        stored = (await peer.call("chat.history", {"sessionKey": key}))["messages"]
    texts = [part["text"] for message in stored for part in message["content"]]
    assert texts == [message["content"] for message in history]
    # A regeneration and an edit go into the same session.
    del history[-1]
    await turn()
    del history[2:]
    await turn(user("Edited second question about Porto"))
    assert keys == {(by, key)}
    async with connected(served.client, SECRET) as peer:
        stored = (await peer.call("chat.history", {"sessionKey": key}))["messages"]
        assert "### Task:" not in str(stored)


async def test_conversations_as_librechat_has_them_are_a_session_each_without_their_titles(
    served: Served, provider: FakeProvider
) -> None:
    provider.default = answer('{"title": "An answer"}')
    titles: list[dict[str, Any]] = [
        {},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "title"}}},
    ]
    prompts = [
        f"{SIDE_TASK_PATTERNS[2]}, using title case conventions.\n\nConversation:\nHello",
        f"{SIDE_TASK_PATTERNS[4]} of the conversation\n2. A concise title\n\nHello",
    ]
    keys = []
    for number, (body, prompt) in enumerate(zip(titles, prompts, strict=True)):
        headers = {"X-LibreChat-Conversation-Id": f"0198a000-0000-4000-8000-00000000000{number}"}
        asked = {"user": "665f00000000000000000000", "temperature": 1, **body}
        history: list[dict[str, Any]] = []
        for question in ("Hello", "And now?"):
            history.append(user(question))
            body = {"messages": history, "user": asked["user"], "stream": True}
            async with served.ask(headers, **body) as response:
                assert response.headers[BY] == "x-librechat-conversation-id"
                keys.append(response.headers[KEY])
                assert b"[DONE]" in await response.content.read()
            history.append({"role": "assistant", "content": '{"title": "An answer"}'})
            async with served.ask(headers, messages=[user(prompt)], **asked) as response:
                assert response.headers[KIND] == "title"
        async with connected(served.client, SECRET) as peer:
            stored = (await peer.call("chat.history", {"sessionKey": keys[-1]}))["messages"]
        texts = [part["text"] for message in stored for part in message["content"]]
        assert texts == [message["content"] for message in history]
    assert keys == [keys[0], keys[0], keys[2], keys[2]]
    assert keys[0] != keys[2]
