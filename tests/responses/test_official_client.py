"""OpenAI's own client against the real application: answers, streams, tools, structured output."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.types.responses import ParsedResponse, Response, ResponseFunctionToolCall
from pydantic import BaseModel

from tests.app.serving import SECRET, Served, config, serving
from tests.fakes.behaviours import Behaviour, answer
from tests.fakes.provider import FakeProvider

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
GATEWAY: Mapping[str, Any] = {
    "auth": {"token": SECRET},
    "http": {"endpoints": {"responses": {"enabled": True}}},
}


def calling(name: str, arguments: object, *more: tuple[str, object], text: str = "") -> Behaviour:
    calls = [
        {
            "index": i,
            "id": f"c{i}",
            "type": "function",
            "function": {"name": called, "arguments": json.dumps(given)},
        }
        for i, (called, given) in enumerate([(name, arguments), *more])
    ]
    return answer(*filter(None, [text]), tool_calls=calls, finish_reason="tool_calls")


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    defaults = {"model": {"primary": "fake/m"}, "workspace": str(tmp_path / "workspace")}
    content = config(
        provider.base_url,
        gateway=GATEWAY,
        agents={"defaults": defaults},
        tools={"allow": ["read", "write"]},
    )
    async with serving(tmp_path, content) as served:
        yield served


@pytest_asyncio.fixture
async def client(served: Served) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=SECRET, max_retries=0) as client:
        yield client


async def test_create_gives_the_text(client: AsyncOpenAI, provider: FakeProvider) -> None:
    provider.will(answer("Hello ", "there"))

    response = await client.responses.create(model="opensoul", input="Hi", instructions="Be kind.")
    assert (response.status, response.output_text) == ("completed", "Hello there")
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert [tool.type for tool in response.tools] == []


async def test_stream_gives_the_same_as_create(client: AsyncOpenAI, provider: FakeProvider) -> None:
    provider.will(answer("Hello ", "there"))

    texts: list[str] = []
    async with client.responses.stream(model="opensoul", input="Hi") as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                texts.append(event.delta)
        final = await stream.get_final_response()
    assert texts == ["Hello ", "there"]
    assert (final.status, final.output_text) == ("completed", "Hello there")


class Place(BaseModel):
    city: str
    degrees: int


async def test_parse_gives_an_object(client: AsyncOpenAI, provider: FakeProvider) -> None:
    place = answer('{"city": "Bern", ', '"degrees": 21}')
    provider.will(place, place)

    parsed: ParsedResponse[Place] = await client.responses.parse(
        model="opensoul", input="Where?", text_format=Place
    )
    assert parsed.output_parsed == Place(city="Bern", degrees=21)
    wanted = provider.requests[-1].json["response_format"]
    assert (wanted["type"], wanted["json_schema"]["strict"]) == ("json_schema", True)

    async with client.responses.stream(
        model="opensoul", input="Where?", text_format=Place
    ) as stream:
        streamed = await stream.get_final_response()
    assert streamed.output_parsed == parsed.output_parsed


def outputs_for(response: Response, result: str) -> list[Any]:
    """The items of an answer with calls, and their outputs."""
    calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    assert calls
    return [
        *(item.model_dump(exclude_none=True) for item in response.output),
        *({"type": "function_call_output", "call_id": c.call_id, "output": result} for c in calls),
    ]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_conversation_with_the_clients_tool(
    client: AsyncOpenAI, provider: FakeProvider, streamed: bool
) -> None:
    async def ask(items: list[Any]) -> Response:
        if not streamed:
            return await client.responses.create(model="opensoul", input=items, tools=[WEATHER])
        async with client.responses.stream(
            model="opensoul", input=items, tools=[WEATHER]
        ) as stream:
            return await stream.get_final_response()

    question = {"role": "user", "content": "How is it in Bern and Rome?"}
    two = ("weather", {"city": "Rome"})
    provider.will(calling("weather", {"city": "Bern"}, two, text="Let me see. "))
    first = await ask([question])
    calls = [item for item in first.output if isinstance(item, ResponseFunctionToolCall)]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Bern", "Rome"]

    provider.will(answer("Sunny in both."))
    second = await ask([question, *outputs_for(first, "sunny")])
    assert second.output_text == "Sunny in both."
    sent = [m for m in provider.requests[-1].json["messages"] if m["role"] != "system"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "tool"]
    assert sent[1]["content"] == "Let me see. "
    assert [call["id"] for call in sent[1]["tool_calls"]] == [m["tool_call_id"] for m in sent[2:]]


async def test_the_agents_own_tools_work_within_one_answer(
    client: AsyncOpenAI, provider: FakeProvider
) -> None:
    provider.will(
        calling("write", {"path": "a.txt", "content": "21"}, text="I write. "),
        answer("It is done."),
    )

    events: list[str] = []
    async with client.responses.stream(
        model="opensoul",
        input="Write 21 into a.txt",
        tools=[WEATHER],
        extra_headers={"x-opensoul-events": "tools"},
    ) as stream:
        async for event in stream:
            events.append(event.type)
        final = await stream.get_final_response()
    assert [item.type for item in final.output] == ["message"]
    assert final.output_text == "I write. \n\nIt is done."
    assert events.count("opensoul.tool") == 2


async def test_the_clients_limit_of_tool_calls_holds_for_the_agents_tools(
    client: AsyncOpenAI, provider: FakeProvider
) -> None:
    write = {"path": "a.txt", "content": "21"}
    provider.will(
        calling("write", write, ("write", {**write, "path": "b.txt"})), answer("One is written.")
    )

    response = await client.responses.create(
        model="opensoul", input="Write twice", max_tool_calls=1
    )
    assert (response.status, response.max_tool_calls) == ("completed", 1)
    assert response.output_text == "One is written."
    results = [m["content"] for m in provider.requests[-1].json["messages"] if m["role"] == "tool"]
    assert "max_tool_calls" not in results[0]
    assert "the client's limit of 1 tool calls (max_tool_calls)" in results[1]


async def test_a_schema_that_cannot_be_used_is_named_as_this_api_spells_it(
    client: AsyncOpenAI,
) -> None:
    schema: Any = {"type": "json_schema", "name": "n", "schema": {"type": 1}, "strict": True}
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="opensoul", input="Hi", text={"format": schema})
    assert refused.value.param == "text.format.schema"


async def test_one_user_has_one_session(client: AsyncOpenAI, provider: FakeProvider) -> None:
    provider.will(answer("Yes."))
    create = client.responses.with_raw_response.create

    first = await create(model="opensoul", input="One", user="alice")
    second = await create(model="opensoul", input="Two", user="alice")
    keys = {reply.headers["x-opensoul-session-key"] for reply in (first, second)}
    assert keys == {"agent:main:openresponses-user:alice"}
    sent = [m["content"] for m in provider.requests[-1].json["messages"] if m["role"] != "system"]
    assert sent == ["One", "Yes.", "Two"]
