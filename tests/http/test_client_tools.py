"""Tools of the client and tools of the agent in one turn, over HTTP with the real application."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from opensoul.domain.sessions import SessionKey, SessionQuery
from opensoul.domain.tools import client_call_id, run_of_call
from tests.app.serving import SECRET, Served, config, serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
READ = {"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}
QUESTION = {"role": "user", "content": "How is Bern?"}
TOOLS = {"tools": {"allow": ["read", "write"]}}


def call(name: str, arguments: object, call_id: str = "", index: int = 0) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": name, "arguments": text}
    return {"index": index, "id": call_id or f"c{index}", "type": "function", "function": function}


def calling(*calls: Mapping[str, Any], text: str = "") -> Any:
    return answer(*filter(None, [text]), tool_calls=calls, finish_reason="tool_calls")


@asynccontextmanager
async def gateway(home: Path, provider: FakeProvider, **more: Any) -> AsyncIterator[Served]:
    defaults = {"model": {"primary": "fake/m"}, "workspace": str(home / "workspace")}
    content = config(provider.base_url, agents={"defaults": defaults}, **TOOLS, **more)
    async with serving(home, content) as served:
        yield served


@pytest_asyncio.fixture
async def served(tmp_path: Path, fake_provider: FakeProvider) -> AsyncIterator[Served]:
    async with gateway(tmp_path, fake_provider) as served:
        yield served


@pytest_asyncio.fixture
async def fake_provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


def client_of(served: Served) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{served.url}/v1", api_key=SECRET, max_retries=0)


def sent(provider: FakeProvider) -> dict[str, Any]:
    """What the provider was sent last."""
    body: dict[str, Any] = provider.requests[-1].json
    return body


def conversation_of(provider: FakeProvider) -> list[dict[str, Any]]:
    """The messages that the provider was sent last, without the system prompt."""
    return [message for message in sent(provider)["messages"] if message["role"] != "system"]


def assert_paired(messages: list[dict[str, Any]]) -> None:
    """Each call has its result directly behind it, as strict providers require."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(message["tool_call_id"])
        else:
            assert not waiting
            waiting = [one["id"] for one in message.get("tool_calls", ())]
    assert not waiting


async def post(served: Served, **body: Any) -> dict[str, Any]:
    async with served.ask(**body) as response:
        whole: dict[str, Any] = await response.json()
        assert response.status == 200, whole
        return whole


def results(choice: Mapping[str, Any], text: str = "sunny") -> list[dict[str, Any]]:
    """The messages with which a client answers: what it was sent, and a result of each call."""
    message = choice["message"]
    answers = [
        {"role": "tool", "tool_call_id": one["id"], "content": text}
        for one in message["tool_calls"]
    ]
    return [message, *answers]


async def test_the_client_gets_its_calls_and_the_turn_goes_on(
    served: Served, fake_provider: FakeProvider
) -> None:
    fake_provider.will(calling(call("weather", {"city": "Bern"}), text="I look."))
    first = await post(served, messages=[QUESTION], tools=[WEATHER])

    (choice,) = first["choices"]
    (made,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    assert made["function"] == {"name": "weather", "arguments": '{"city": "Bern"}'}
    assert run_of_call(made["id"]) is not None
    offered = {tool["function"]["name"] for tool in sent(fake_provider)["tools"]}
    assert offered == {"read", "write", "weather"}

    fake_provider.will(answer("It is sunny."))
    second = await post(served, messages=[QUESTION, *results(choice)], tools=[WEATHER])

    assert second["choices"][0]["finish_reason"] == "stop"
    assert second["choices"][0]["message"]["content"] == "It is sunny."
    assert_paired(sent(fake_provider)["messages"])


async def test_a_call_is_streamed_with_its_name_first(
    served: Served, fake_provider: FakeProvider
) -> None:
    fake_provider.will(
        calling(call("weather", {"city": "Bern"}), call("weather", {"city": "Basel"}, index=1))
    )

    async with client_of(served) as client:
        tools: Any = [WEATHER]
        stream = await client.chat.completions.create(
            model="opensoul",
            messages=[{"role": "user", "content": "How is it?"}],
            tools=tools,
            stream=True,
        )
        choices = [chunk.choices[0] async for chunk in stream]

    deltas = [one for choice in choices for one in choice.delta.tool_calls or ()]
    firsts = [one for one in deltas if one.id]
    assert [(one.index, one.function and one.function.name) for one in firsts] == [
        (0, "weather"),
        (1, "weather"),
    ]
    cities = ["", ""]
    for one in deltas:
        assert one.function is not None
        cities[one.index] += one.function.arguments or ""
    assert [json.loads(city)["city"] for city in cities] == ["Bern", "Basel"]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]


MIXED = calling(
    call("read", {"path": "a.txt"}), call("weather", {"city": "Bern"}, index=1), text="Both."
)


@pytest.mark.parametrize("session", [None, "trip"])
@pytest.mark.parametrize("restarts", [False, True])
async def test_a_step_with_both_kinds_keeps_the_agents_results(
    tmp_path: Path, fake_provider: FakeProvider, session: str | None, restarts: bool
) -> None:
    headers = {} if session is None else {"x-opensoul-session-key": session}
    fake_provider.will(MIXED)
    async with gateway(tmp_path, fake_provider) as served:
        async with served.ask(headers, messages=[QUESTION], tools=[WEATHER]) as response:
            first = await response.json()
        (choice,) = first["choices"]
        assert [one["function"]["name"] for one in choice["message"]["tool_calls"]] == ["weather"]
        if not restarts:
            fake_provider.will(answer("Done."))
            await finish(served, fake_provider, headers, choice, resent=session is None)
    if restarts:
        async with gateway(tmp_path, fake_provider) as served:
            fake_provider.will(answer("Done."))
            await finish(served, fake_provider, headers, choice, resent=session is None)


async def finish(
    served: Served,
    provider: FakeProvider,
    headers: Mapping[str, str],
    choice: Mapping[str, Any],
    *,
    resent: bool,
) -> None:
    """Send the results, and see that the provider gets the whole turn."""
    messages = [QUESTION, *results(choice)] if resent else results(choice)[1:]
    text = await served.text(headers, messages=messages, tools=[WEATHER])

    assert text == "Done."
    conversation = conversation_of(provider)
    assert_paired(conversation)
    made = [one["function"]["name"] for one in conversation[1]["tool_calls"]]
    assert made == ["read", "weather"]
    assert [message["role"] for message in conversation] == ["user", "assistant", "tool", "tool"]
    assert "a.txt" in conversation[2]["content"]
    assert conversation[3]["content"] == "sunny"


async def test_results_are_sent_again(served: Served, fake_provider: FakeProvider) -> None:
    """Because the answer did not arrive: they are answered once more, in a new transcript."""
    headers = {"x-opensoul-session-key": "trip"}
    fake_provider.will(MIXED)
    async with served.ask(headers, messages=[QUESTION], tools=[WEATHER]) as response:
        (choice,) = (await response.json())["choices"]
    for _ in range(2):
        fake_provider.will(answer("Done."))
        await finish(served, fake_provider, headers, choice, resent=False)

    question = {"role": "user", "content": "And Basel?"}
    fake_provider.will(answer("Rainy."))
    await served.text(headers, messages=[*results(choice)[1:], question], tools=[WEATHER])

    conversation = conversation_of(fake_provider)
    assert_paired(conversation)
    roles = [message["role"] for message in conversation]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "user"]
    catalog = served.container.catalog()
    key = SessionKey("main", "trip")
    assert len(await catalog.messages(key, limit=100)) == 7
    assert len(await catalog.transcripts(key, 9)) == 2


async def test_a_temporary_conversation_leaves_nothing_behind(
    served: Served, fake_provider: FakeProvider
) -> None:
    """Neither a plain answer, nor a title, nor tools. A turn is kept while its client has to go on
    with it."""
    headers = {"X-OpenWebUI-Chat-Id": "temporary:abc"}
    catalog = served.container.catalog()

    async def kept() -> int:
        return (await catalog.list(SessionQuery())).total

    await served.text(headers, messages=[QUESTION])
    task = {"role": "user", "content": "### Task:\nGenerate a concise title"}
    await served.text(headers, messages=[task])
    assert await kept() == 0
    fake_provider.will(calling(call("read", {"path": "a.txt"})), answer("Read."))
    await served.text(headers, messages=[QUESTION])
    while await kept():
        pass  # It is deleted behind the answer.

    fake_provider.will(MIXED)
    async with served.ask(headers, messages=[QUESTION], tools=[WEATHER]) as response:
        made = results((await response.json())["choices"][0])
    assert await kept() == 1
    fake_provider.will(answer("Done."))
    await served.text(headers, messages=[QUESTION, *made], tools=[WEATHER])
    assert "a.txt" in json.dumps(conversation_of(fake_provider))
    while await kept():
        pass


async def test_results_alone_go_on_with_the_turn(
    served: Served, fake_provider: FakeProvider
) -> None:
    """In a request without a session, whose client has kept the ids of its calls only."""
    fake_provider.will(calling(call("read", {"path": "a.txt"})), MIXED)
    whole = await post(served, messages=[QUESTION], tools=[WEATHER])
    fake_provider.will(answer("Done."))

    await post(served, messages=results(whole["choices"][0])[1:], tools=[WEATHER])

    conversation = conversation_of(fake_provider)
    assert_paired(conversation)
    assert conversation[0]["content"] == QUESTION["content"]
    roles = [message["role"] for message in conversation]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "tool"]
    assert conversation[-1]["content"] == "sunny"


async def test_results_of_the_question_go_on_with_its_steps(
    served: Served, fake_provider: FakeProvider
) -> None:
    fake_provider.will(MIXED)
    whole = await post(served, messages=[QUESTION], tools=[WEATHER])
    fake_provider.will(answer("Done."))

    await post(served, messages=[QUESTION, *results(whole["choices"][0])[1:]], tools=[WEATHER])

    conversation = conversation_of(fake_provider)
    assert_paired(conversation)
    roles = [message["role"] for message in conversation]
    assert roles == ["user", "assistant", "tool", "tool"]


@pytest.mark.parametrize("call_id", [client_call_id("a run of nobody", 1, 0), "call_1"])
async def test_a_result_without_its_call_is_named(
    served: Served, fake_provider: FakeProvider, call_id: str
) -> None:
    stray = {"role": "tool", "tool_call_id": call_id, "content": "sunny"}
    system = {"role": "system", "content": "Be brief."}

    async with served.ask(messages=[system, QUESTION, stray]) as response:
        error = (await response.json())["error"]
        assert (response.status, error["param"]) == (400, "messages[2].tool_call_id")

    assert call_id in error["message"]
    assert fake_provider.requests == []


@pytest.mark.parametrize("session", [{}, {"x-opensoul-session-key": "trip"}])
async def test_a_result_that_is_sent_again_after_a_later_question_is_refused(
    served: Served, fake_provider: FakeProvider, session: dict[str, str]
) -> None:
    fake_provider.will(calling(call("weather", {})))
    async with served.ask(session, messages=[QUESTION], tools=[WEATHER]) as response:
        made = results((await response.json())["choices"][0])
    later = [{"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "And Basel?"}]
    for messages in ([QUESTION, *made], [QUESTION, *made, *later]):
        fake_provider.will(answer("Sunny."))
        async with served.ask(session, messages=messages, tools=[WEATHER]) as response:
            assert response.status == 200

    again = made[1:] if session else [QUESTION, *made, *later, *made[1:]]
    async with served.ask(session, messages=again, tools=[WEATHER]) as response:
        error = (await response.json())["error"]

    assert response.status == 400
    assert error["param"] == ("messages" if session else "messages[5].tool_call_id")
    assert made[1]["tool_call_id"] in error["message"]


async def test_several_rounds_without_a_session(
    served: Served, fake_provider: FakeProvider
) -> None:
    """The agent's own steps of each round are in the next ones."""
    messages: list[Any] = [QUESTION]
    for number in range(3):
        own = calling(call("read", {"path": f"{number}.txt"}))
        fake_provider.will(own, MIXED)
        whole = await post(served, messages=messages, tools=[WEATHER])
        messages += results(whole["choices"][0], f"result {number}")

    fake_provider.will(answer("Done."))
    await post(served, messages=messages, tools=[WEATHER])

    conversation = conversation_of(fake_provider)
    assert_paired(conversation)
    names = [
        one["function"]["name"] for message in conversation for one in message.get("tool_calls", ())
    ]
    assert names == ["read", "read", "weather"] * 3


async def test_calls_of_another_history_are_the_clients_own(
    served: Served, fake_provider: FakeProvider
) -> None:
    fake_provider.will(answer("Done."))
    unknown = [
        client_call_id("0192f0c1-2d3e-7abc-8def-0123456789ab", 1, 0),
        "call_of_another_server",
    ]
    calls = [call("weather", {}, call_id) for call_id in unknown]
    answers = [{"role": "tool", "tool_call_id": one, "content": ""} for one in unknown]
    for one in calls:
        del one["index"]
    mine = {"role": "assistant", "content": None, "tool_calls": calls}

    await post(served, messages=[QUESTION, mine, *answers], tools=[WEATHER])

    conversation = conversation_of(fake_provider)
    assert [one["id"] for one in conversation[1]["tool_calls"]] == unknown
    assert_paired(conversation)


async def test_the_name_of_a_client_wins(
    tmp_path: Path, served: Served, fake_provider: FakeProvider
) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "a.txt").write_text("the agent's file")
    fake_provider.will(
        calling(call("agent__read", {"path": "a.txt"})), calling(call("read", {"path": "mine"}))
    )

    whole = await post(served, messages=[QUESTION], tools=[READ])

    (made,) = whole["choices"][0]["message"]["tool_calls"]
    assert made["function"] == {"name": "read", "arguments": '{"path": "mine"}'}
    offered = [tool["function"]["name"] for tool in sent(fake_provider)["tools"]]
    assert sorted(offered) == ["agent__read", "read", "write"]
    assert "the agent's file" in sent(fake_provider)["messages"][-1]["content"]


async def test_a_malformed_call_is_answered_to_the_model(
    served: Served, fake_provider: FakeProvider
) -> None:
    fake_provider.will(
        calling(call("weather", '{"city": ')), calling(call("weather", {"city": "Bern"}))
    )

    whole = await post(served, messages=[QUESTION], tools=[WEATHER])

    (made,) = whole["choices"][0]["message"]["tool_calls"]
    assert json.loads(made["function"]["arguments"]) == {"city": "Bern"}
    assert "JSON" in sent(fake_provider)["messages"][-1]["content"]


async def test_the_text_behind_a_malformed_call_is_a_paragraph_of_its_own(
    served: Served, fake_provider: FakeProvider
) -> None:
    fake_provider.will(calling(call("weather", '{"city": '), text="I look."), answer("Sunny."))

    whole = await post(served, messages=[QUESTION], tools=[WEATHER])

    assert whole["choices"][0]["message"]["content"] == "I look.\n\nSunny."


@pytest.mark.parametrize(
    ("choice", "reaches", "tools"),
    [
        ("auto", None, {"weather", "other", "read", "write"}),
        ("required", "required", {"weather", "other", "read", "write"}),
        ("none", None, {"read", "write"}),
        (
            {"type": "function", "function": {"name": "weather"}},
            {"type": "function", "function": {"name": "weather"}},
            {"weather", "other", "read", "write"},
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "weather"}}],
                },
            },
            "required",
            {"weather", "read", "write"},
        ),
    ],
)
async def test_the_choice_of_a_tool(
    served: Served, fake_provider: FakeProvider, choice: object, reaches: object, tools: set[str]
) -> None:
    fake_provider.will(answer("Hello."))
    other = {"type": "function", "function": {"name": "other", "strict": True}}

    await post(served, messages=[QUESTION], tools=[WEATHER, other], tool_choice=choice)

    body = sent(fake_provider)
    assert body.get("tool_choice") == reaches
    assert {tool["function"]["name"] for tool in body["tools"]} == tools


async def test_definitions_reach_the_provider_as_they_came(
    tmp_path: Path, fake_provider: FakeProvider
) -> None:
    fake_provider.will(answer("Hello."), answer("Hello."))
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "title": "Args",
        "properties": {"a": {"type": "string", "title": "A"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": schema, "strict": True},
    }
    async with serving(tmp_path, config(fake_provider.base_url)) as served:
        await post(served, messages=[QUESTION], tools=[tool], parallel_tool_calls=False)
        await post(served, messages=[QUESTION], tools=[tool], tool_choice="none")

    first, second = (request.json for request in fake_provider.requests)
    assert first["tools"] == [tool]
    assert first["parallel_tool_calls"] is False
    assert second["tool_choice"] == "none"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_older_functions(
    served: Served, fake_provider: FakeProvider, stream: bool
) -> None:
    headers = {"x-opensoul-session-key": "old"}
    fake_provider.will(calling(call("weather", {"city": "Bern"})))
    function = WEATHER["function"]
    body: dict[str, Any] = {"messages": [QUESTION], "functions": [function]}

    async with served.ask(headers, **body, stream=stream) as response:
        text = await response.text()
    if stream:
        frames = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
        made = {"name": "", "arguments": ""}
        for frame in frames:
            for name, piece in (frame["choices"][0]["delta"].get("function_call") or {}).items():
                made[name] += piece
        reason = frames[-1]["choices"][0]["finish_reason"]
    else:
        (choice,) = json.loads(text)["choices"]
        made, reason = choice["message"]["function_call"], choice["finish_reason"]
    assert (made["name"], json.loads(made["arguments"])) == ("weather", {"city": "Bern"})
    assert reason == "function_call"

    fake_provider.will(answer("Sunny."))
    answered = [{"role": "function", "name": "weather", "content": "sunny"}]
    assert await served.text(headers, messages=answered, functions=[function]) == "Sunny."
    assert_paired(sent(fake_provider)["messages"])


async def test_a_conversation_goes_on_without_the_result(
    served: Served, fake_provider: FakeProvider
) -> None:
    headers = {"x-opensoul-session-key": "given-up"}
    fake_provider.will(MIXED)
    async with served.ask(headers, messages=[QUESTION], tools=[WEATHER]) as response:
        assert response.status == 200
    fake_provider.will(answer("Hello."))

    await served.text(headers, messages=[{"role": "user", "content": "Never mind."}])

    conversation = conversation_of(fake_provider)
    assert_paired(conversation)
    assert conversation[-1]["content"] == "Never mind."


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": function}


CHOOSES_OTHER = {"type": "function", "function": {"name": "other"}}
REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"tools": {}}, "tools", "a list"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type", "custom"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "web_search"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "an object"),
    ({"tools": [tool()]}, "tools[0].function.name", "missing"),
    ({"tools": [tool(name="a b")]}, "tools[0].function.name", "letters"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name", "twice"),
    ({"tools": [tool(name="f", parameters=[])]}, "tools[0].function.parameters", "an object"),
    ({"tools": [tool(name="f", strict="yes")]}, "tools[0].function.strict", "true, false"),
    ({"tool_choice": "required"}, "tool_choice", "only allowed when 'tools' are specified"),
    ({"tool_choice": CHOOSES_OTHER}, "tool_choice", "only allowed when 'tools' are specified"),
    ({"tools": [WEATHER], "tool_choice": "always"}, "tool_choice", "one of auto"),
    ({"tools": [WEATHER], "tool_choice": CHOOSES_OTHER}, "tool_choice", "'other' not found"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "custom", "custom": {"name": "x"}}},
        "tool_choice.type",
        "custom",
    ),
    ({"function_call": {"name": "f"}}, "function_call", "only allowed when 'functions'"),
    ({"functions": [{"name": "f"}], "tools": [WEATHER]}, "functions", "beside `tools`"),
]


@pytest.mark.parametrize(("body", "param", "words"), REFUSALS)
async def test_what_cannot_be_honoured_is_named(
    served: Served, fake_provider: FakeProvider, body: dict[str, Any], param: str, words: str
) -> None:
    async with served.ask(**body) as response:
        error = (await response.json())["error"]

    assert response.status == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert words in error["message"]
    assert not fake_provider.requests


@pytest.mark.parametrize("body", [{"tool_choice": "auto"}, {"tool_choice": "none"}, {"tools": []}])
async def test_neutral_values_without_tools(
    served: Served, fake_provider: FakeProvider, body: dict[str, Any]
) -> None:
    fake_provider.will(answer("Hello."))

    assert await served.text(**body) == "Hello."
    assert "tool_choice" not in sent(fake_provider)
