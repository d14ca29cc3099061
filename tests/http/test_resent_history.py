"""Clients that resend their whole conversation, over HTTP with the real application."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from opensoul.domain.messages import Message, ToolCall
from opensoul.domain.sessions import SessionQuery
from opensoul.domain.sessions.keys import SessionKey
from tests.app.serving import SECRET, Served, config, serving
from tests.fakes.behaviours import answer, fail
from tests.fakes.provider import FakeProvider

from .pictures import png

KEY = SessionKey("main", "talk")
HEADERS = {"x-opensoul-session-key": "talk"}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object"}},
}


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@asynccontextmanager
async def talking(
    home: Path,
    provider: FakeProvider,
    headers: Mapping[str, str] = HEADERS,
    key: SessionKey = KEY,
) -> AsyncIterator[Conversation]:
    defaults = {"model": {"primary": "fake/m"}, "workspace": str(home / "workspace")}
    content = config(
        provider.base_url, agents={"defaults": defaults}, tools={"allow": ["read", "write"]}
    )
    async with serving(home, content) as served:
        base = f"{served.url}/v1"
        async with AsyncOpenAI(
            base_url=base, api_key=SECRET, max_retries=0, default_headers=headers
        ) as client:
            yield Conversation(served, provider, client, key)


@pytest_asyncio.fixture
async def talk(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Conversation]:
    async with talking(tmp_path, provider) as talk:
        yield talk


class Conversation:
    """What the client believes was said, and what is stored."""

    def __init__(
        self, served: Served, provider: FakeProvider, client: AsyncOpenAI, key: SessionKey
    ) -> None:
        self.key = key
        self.served = served
        self.provider = provider
        self.client = client
        self.messages: list[Any] = []
        self.tools: list[Any] = []

    async def ask(self, text: str, reply: str, *, streamed: bool = False) -> None:
        """Add a question and its answer."""
        self.messages.append(user(text))
        await self.send(reply, streamed=streamed)

    async def send(self, reply: str, *, streamed: bool = False) -> None:
        self.provider.will(answer(reply))
        create: Any = self.client.chat.completions.create
        if streamed:
            more = {"tools": self.tools} if self.tools else {}
            stream = await create(model="opensoul", messages=self.messages, stream=True, **more)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            self.messages.append(assistant(text))
        else:
            whole = await create(model="opensoul", messages=self.messages)
            self.messages.append(whole.choices[0].message.model_dump(exclude_none=True))

    async def stored(self) -> list[str]:
        """The current transcript."""
        catalog = self.served.container.catalog()
        return texts(one.message for one in await catalog.messages(self.key, limit=1_000))

    async def transcripts(self) -> list[list[str]]:
        """All of them, the newest first."""
        catalog = self.served.container.catalog()
        return [
            texts(
                one.message
                for one in await catalog.messages(self.key, limit=1_000, session_id=kept.session_id)
            )
            for kept in await catalog.transcripts(self.key, 100)
        ]

    def reached(self) -> list[str]:
        """What the model was sent last."""
        messages = self.provider.requests[-1].json["messages"]
        return [one["content"] for one in messages if one["role"] != "system"]


def texts(messages: Any) -> list[str]:
    def text(message: Message) -> str:
        calls = [part.name for part in message.parts if isinstance(part, ToolCall)]
        return " ".join([message.text, *calls]).strip()

    return [text(message) for message in messages]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


async def test_nothing_is_stored_twice(talk: Conversation) -> None:
    for number in range(4):
        await talk.ask(f"q{number}", f"a{number}", streamed=number % 2 == 0)

    expected = ["q0", "a0", "q1", "a1", "q2", "a2", "q3", "a3"]
    assert await talk.transcripts() == [expected]
    assert talk.reached() == expected[:-1]


async def test_clients_that_write_the_same_otherwise(talk: Conversation) -> None:
    await talk.ask("one\r\ntwo ", "A  \n\n list")
    talk.messages = [
        {"role": "user", "content": [{"type": "text", "text": "one\ntwo"}]},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "list"}],
            "reasoning_content": "Hm.",
        },
        {"role": "assistant", "content": None},
    ]
    await talk.ask("q2", "a2")

    assert await talk.transcripts() == [["one\r\ntwo", "A  \n\n list", "q2", "a2"]]


async def test_an_edit_branches_where_it_differs(talk: Conversation) -> None:
    for number in range(3):
        await talk.ask(f"q{number}", f"a{number}")
    del talk.messages[2:]
    await talk.ask("q1 edited", "b1")

    assert talk.reached() == ["q0", "a0", "q1 edited"]
    assert await talk.transcripts() == [
        ["q0", "a0", "q1 edited", "b1"],
        ["q0", "a0", "q1", "a1", "q2", "a2"],
    ]
    await talk.ask("q2", "b2")
    assert await talk.stored() == ["q0", "a0", "q1 edited", "b1", "q2", "b2"]


async def test_an_edited_answer_reaches_the_model(talk: Conversation) -> None:
    await talk.ask("q0", "a0")
    talk.messages[1] = assistant("better")
    await talk.ask("q1", "a1")

    assert talk.reached() == ["q0", "better", "q1"]
    assert await talk.transcripts() == [["q0", "better", "q1", "a1"], ["q0", "a0"]]


async def test_a_regenerated_answer_does_not_follow_the_one_before(talk: Conversation) -> None:
    await talk.ask("q0", "a0")
    await talk.ask("q1", "a1")
    del talk.messages[3:]
    await talk.send("b1")

    assert talk.reached() == ["q0", "a0", "q1"]
    assert await talk.transcripts() == [["q0", "a0", "q1", "b1"], ["q0", "a0", "q1", "a1"]]


async def test_what_the_client_cut_off_does_not_reach_the_model(talk: Conversation) -> None:
    for number in range(4):
        await talk.ask(f"q{number}", f"a{number}")
    del talk.messages[:4]
    await talk.ask("q4", "a4")

    assert talk.reached() == ["q2", "a2", "q3", "a3", "q4"]
    everything = [text for number in range(5) for text in (f"q{number}", f"a{number}")]
    assert await talk.transcripts() == [everything]


async def test_a_deleted_exchange_is_gone_from_the_branch(talk: Conversation) -> None:
    for number in range(3):
        await talk.ask(f"q{number}", f"a{number}")
    del talk.messages[2:4]
    await talk.ask("q3", "a3")

    assert talk.reached() == ["q0", "a0", "q2", "a2", "q3"]
    assert (await talk.transcripts())[0] == ["q0", "a0", "q2", "a2", "q3", "a3"]


async def test_questions_alone_follow_what_is_stored(talk: Conversation) -> None:
    await talk.ask("q0", "a0")
    talk.messages = []
    await talk.ask("q0", "a1")

    assert talk.reached() == ["q0", "a0", "q0"]
    assert await talk.transcripts() == [["q0", "a0", "q0", "a1"]]


async def test_a_failed_branch_leaves_the_session_as_it_was(talk: Conversation) -> None:
    await talk.ask("q0", "a0")
    await talk.ask("q1", "a1")
    talk.provider.will(
        answer(tool_calls=[call("read", {"path": "a.txt"})], finish_reason="tool_calls"),
        fail(400, {"error": {"message": "no"}}),
    )
    edited = [*talk.messages[:2], user("edited")]
    async with talk.served.ask(HEADERS, messages=edited) as response:
        assert response.status == 400

    assert await talk.transcripts() == [["q0", "a0", "q1", "a1"]]
    talk.messages = [*edited[:2], user("edited"), user("edited")]
    await talk.send("b1")
    assert (await talk.transcripts())[0] == ["q0", "a0", "edited", "b1"]


async def test_what_a_failed_turn_did_reaches_the_model(talk: Conversation) -> None:
    await talk.ask("q0", "a0")
    talk.messages.append(user("q1"))
    talk.provider.will(
        answer(tool_calls=[call("read", {"path": "a.txt"})], finish_reason="tool_calls"),
        fail(400, {"error": {"message": "no"}}),
    )
    async with talk.served.ask(HEADERS, messages=talk.messages) as response:
        assert response.status == 400
    await talk.ask("q2", "a2")
    await talk.ask("q3", "a3")

    (kept,) = await talk.transcripts()
    assert kept[:4] == ["q0", "a0", "q1", "read"]
    assert kept[-4:] == ["q2", "a2", "q3", "a3"]
    assert len(kept) == 10
    roles = [one["role"] for one in talk.provider.requests[-1].json["messages"]]
    assert roles[-7:] == ["user", "assistant", "tool", "assistant", "user", "assistant", "user"]


async def test_steps_that_the_client_does_not_know_stay_in_the_history(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """Also after a restart: the agent's own calls, and their results, are stored only."""
    async with talking(tmp_path, provider) as talk:
        provider.will(
            answer("I look.", tool_calls=[call("read", {"path": "a"})], finish_reason="tool_calls"),
            answer(
                "And there.",
                tool_calls=[call("read", {"path": "b"}), call("weather", {}, 1)],
                finish_reason="tool_calls",
            ),
        )
        talk.messages.append(user("How is it?"))
        create: Any = talk.client.chat.completions.create
        whole = await create(model="opensoul", messages=talk.messages, tools=[WEATHER])
        message = whole.choices[0].message.model_dump(exclude_none=True)
        # As the client library has it: the arguments written anew.
        (made,) = message["tool_calls"]
        made["function"]["arguments"] = json.dumps(json.loads(made["function"]["arguments"]))
        talk.messages += [message, {"role": "tool", "tool_call_id": made["id"], "content": "sun"}]
        await talk.send("It is sunny.")
        kept = await talk.stored()
        messages = talk.messages
    assert len(kept) == 7

    async with talking(tmp_path, provider) as talk:
        talk.messages = messages
        await talk.ask("Thanks", "Bye")

        assert await talk.transcripts() == [[*kept, "Thanks", "Bye"]]
        roles = [one["role"] for one in provider.requests[-1].json["messages"]]
        assert [role for role in roles if role != "system"] == [
            *("user", "assistant", "tool", "assistant", "tool", "tool", "assistant", "user")
        ]


@pytest.mark.parametrize("edited", [False, True])
async def test_a_branch_keeps_the_steps_of_an_earlier_call(
    talk: Conversation, edited: bool
) -> None:
    """The client has cut its history, and sends all of it again: the current transcript has neither
    the call nor what the agent did before it. A step that it has edited is as it sends it."""
    talk.provider.will(
        answer("I look.", tool_calls=[call("read", {"path": "a"})], finish_reason="tool_calls"),
        answer(tool_calls=[call("weather", {})], finish_reason="tool_calls"),
    )
    talk.messages.append(user("How is it?"))
    create: Any = talk.client.chat.completions.create
    whole = await create(model="opensoul", messages=talk.messages, tools=[WEATHER])
    message = whole.choices[0].message.model_dump(exclude_none=True)
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sun"}
    talk.messages += [message, result]
    await talk.send("It is sunny.")
    everything = list(talk.messages)
    talk.messages = []
    await talk.ask("Hello", "Hi")
    talk.messages[0] = user("Good morning")
    await talk.ask("And you?", "Fine")

    talk.messages = everything
    if edited:
        message["content"] = "I know."
    await talk.ask("Thanks", "Bye")

    sent = talk.provider.requests[-1].json["messages"]
    roles = [one["role"] for one in sent if one["role"] != "system"]
    own = [] if edited else ["assistant", "tool"]
    assert roles == ["user", *own, "assistant", "tool", "assistant", "user"]
    assert ("I know." in json.dumps(sent)) is edited


async def test_two_requests_at_once_in_one_session(talk: Conversation) -> None:
    await talk.ask("q0", "a0")
    both = [[*talk.messages, user(text)] for text in ("left", "right")]

    replies = await asyncio.gather(
        *(talk.served.text(HEADERS, messages=messages) for messages in both)
    )

    assert replies == ["Hello there", "Hello there"]
    branches = sorted(await talk.transcripts())
    assert branches == [["q0", "a0", side, "Hello there"] for side in ("left", "right")]


CHAT = {"x-openwebui-chat-id": "chat-1"}


async def test_a_chat_of_open_webui(tmp_path: Path, provider: FakeProvider) -> None:
    """Messages with its own tools, a failed turn, a regeneration, an edit, a picture; titles, tags,
    follow-up questions and search queries beside them. All of it is one session."""
    key = SessionKey("main", "openai-chat:x-openwebui-chat-id:chat-1")
    async with talking(tmp_path, provider, CHAT, key) as talk:

        async def side_task(kind: str, words: str) -> None:
            provider.will(answer('{"title": "Greeting"}'))
            task = user(f"### Task:\n{words}\n### Chat History:\nUSER: hello")
            async with talk.served.ask(CHAT, messages=[task], stream=False) as response:
                assert response.headers["x-opensoul-side-task"] == kind
                assert response.status == 200
            assert "tools" not in provider.requests[-1].json

        talk.tools = [WEATHER]
        await side_task("title", "Generate a concise title summarizing the chat history.")
        await talk.ask("hello", "hi there", streamed=True)
        await side_task("follow-up", "Predict 3-5 messages this user might send next")
        await side_task("tags", "Generate 1-3 broad tags categorizing the main themes")
        talk.messages.append(user("where is it?"))
        provider.will(fail(400, {"error": {"message": "no"}}))
        async with talk.served.ask(CHAT, messages=talk.messages) as response:
            assert response.status == 400
        await talk.ask("where is Lisbon?", "in Portugal", streamed=True)
        first = ["hello", "hi there", "where is it?", "where is Lisbon?", "in Portugal"]
        assert await talk.transcripts() == [first]

        del talk.messages[4:]
        await talk.send("in the south of Portugal", streamed=True)
        second = [*first[:-1], "in the south of Portugal"]
        assert await talk.transcripts() == [second, first]

        talk.messages[0:] = [user("good morning")]
        await talk.send("good morning", streamed=True)
        assert talk.reached() == ["good morning"]
        assert await talk.transcripts() == [["good morning", "good morning"], second, first]

        await side_task("query", "Analyze the chat history to determine the necessity of queries")
        url = f"data:image/png;base64,{base64.b64encode(png(8, 8)).decode()}"
        shown = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]
        talk.messages.append({"role": "user", "content": shown})
        await talk.send("a picture", streamed=True)
        await talk.ask("thanks", "welcome", streamed=True)
        third = ["good morning", "good morning", "look", "a picture", "thanks", "welcome"]
        assert await talk.transcripts() == [third, second, first]
        page = await talk.served.container.catalog().list(SessionQuery(limit=100))
        assert [one.key for one in page.sessions if not one.one_off] == [key]


def call(name: str, arguments: object, index: int = 0) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments, separators=(",", ":"))}
    return {"index": index, "id": f"c{index}", "type": "function", "function": function}
