"""The same agent in each framework, through the chat endpoint of a real Gateway."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from opensoul.client import Client, Options, ToolFinished, ToolStarted
from tests.app.serving import SECRET
from tests.e2e.process import OPENSOUL
from tests.fakes.behaviours import USAGE, answer, fail, hang_after
from tests.fakes.provider import PATIENCE, FakeProvider
from tests.python_agents.bench import (
    OPENAI_AGENTS,
    PYDANTIC_AI,
    Bench,
    bench,
    call,
    calling,
    says,
    written,
)
from tests.python_agents.conftest import Write
from tests.python_agents.test_functions import text_of

FRAMEWORKS = {"pydantic-ai": PYDANTIC_AI, "openai-agents": OPENAI_AGENTS}
every_framework = pytest.mark.parametrize("framework", FRAMEWORKS)
# Clients of models stay connected until they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

WEATHER = call("weather", '{"city":"Rome"}')
TWICE = {name: 2 * USAGE[name] for name in USAGE}
PNG = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5"
    "ErkJggg=="
)
PICTURE = {"type": "image_url", "image_url": {"url": PNG}}
LOOK: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
}
TAKEN = {"type": "function", "function": {"name": "weather"}}


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
def module(framework: str, write: Write, tmp_path: Path, provider: FakeProvider) -> str:
    return written(write, tmp_path, FRAMEWORKS[framework], provider)


@pytest_asyncio.fixture
async def agent(module: str, tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Bench]:
    async with bench(tmp_path, module, provider) as served:
        yield served


def calls_weather(provider: FakeProvider) -> None:
    provider.will(calling(WEATHER, text="I look. ", reasoning=["hm"]), answer("It is ", "sunny."))


@every_framework
async def test_the_official_client_gets_answers_with_the_usage_of_all_model_calls(
    agent: Bench,
) -> None:
    calls_weather(agent.provider)
    calls_weather(agent.provider)
    question: Any = [{"role": "system", "content": "Be kind."}, *says("hello")]
    url = f"{agent.served.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=SECRET, max_retries=0) as client:
        create = client.chat.completions.create
        whole = await create(
            model="opensoul",
            messages=question,
            temperature=0.5,
            max_tokens=9,
            stop=["END"],
            seed=7,
        )
        stream = await create(
            model="opensoul",
            messages=question,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    request = agent.provider.requests[0].json

    assert whole.choices[0].message.content is not None
    assert whole.choices[0].message.content.endswith("It is sunny.")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.model_dump().items() >= TWICE.items()
    assert (request["temperature"], request["stop"], request["seed"]) == (0.5, ["END"], 7)
    assert 9 in (request.get("max_tokens"), request.get("max_completion_tokens"))
    system = " ".join(m["content"] for m in request["messages"] if m["role"] == "system")
    assert "Be brief." in system
    assert "Be kind." in system
    assert agent.sent(1)[-1]["content"] == "sun in Rome for main"
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "I look. It is sunny."
    thoughts = [(delta.model_extra or {}).get("reasoning_content", "") for delta in deltas]
    assert "".join(thoughts) == "hm"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.model_dump().items() >= TWICE.items()


@every_framework
async def test_usage_that_nobody_reports_is_estimated(agent: Bench) -> None:
    agent.provider.will(answer("Hello", usage=None))

    whole = await agent.whole()

    assert whole["usage"]["prompt_tokens"] > 0
    assert whole["usage"]["completion_tokens"] > 0


@every_framework
async def test_the_model_gets_an_error_for_broken_arguments(agent: Bench) -> None:
    agent.provider.will(calling(call("weather", '{"city":"Ro')), answer("Sorry."))

    whole = await agent.whole(user="ada")
    error = agent.sent()[-1]
    await agent.whole(user="ada")
    kept = [message for message in agent.sent() if message["role"] == "tool"]

    assert whole["choices"][0]["message"]["content"] == "Sorry."
    assert error["role"] == "tool"
    assert [message["tool_call_id"] for message in kept] == ["c1"]


@every_framework
async def test_the_third_turn_has_the_calls_and_pictures_of_the_others(agent: Bench) -> None:
    calls_weather(agent.provider)
    await agent.whole(user="ada", messages=says("weather?"))
    look = [{"role": "user", "content": [{"type": "text", "text": "look"}, PICTURE]}]
    await agent.whole(user="ada", messages=look)
    await agent.whole(user="ada", messages=says("and now?"))

    system, asked, called, result, said, shown, seen, last = agent.sent()
    assert (system["role"], system["content"]) == ("system", "Be brief.")
    assert asked["content"] == "weather?"
    assert called["content"] == "I look. "
    assert called["tool_calls"][0]["function"] == WEATHER["function"]
    assert result["tool_call_id"] == called["tool_calls"][0]["id"]
    assert result["content"] == "sun in Rome for main"
    assert said["content"] == "It is sunny."
    assert [part["type"] for part in shown["content"]] == ["text", "image_url"]
    assert shown["content"][1]["image_url"]["url"] == PNG
    assert seen["content"] == "Hello there"
    assert last["content"] == "and now?"


@every_framework
async def test_successive_messages_of_one_side_lose_no_new_ones(agent: Bench) -> None:
    conversation = [
        *says("one"),
        {"role": "assistant", "content": "two"},
        {"role": "assistant", "content": "three"},
        *says("four"),
        *says("five"),
    ]
    calls_weather(agent.provider)
    await agent.whole(user="ada", messages=conversation)
    await agent.whole(user="ada", messages=says("six"))

    called, result, said, last = agent.sent()[-4:]
    assert called["tool_calls"][0]["function"] == WEATHER["function"]
    assert (result["role"], result["content"]) == ("tool", "sun in Rome for main")
    assert (said["content"], last["content"]) == ("It is sunny.", "six")


@pytest.mark.parametrize(
    "isolation", ["thread", pytest.param("process", marks=pytest.mark.e2e), "inline"]
)
@every_framework
async def test_runs_cross_over_to_where_the_code_of_the_agent_is(
    isolation: str, module: str, tmp_path: Path, provider: FakeProvider
) -> None:
    provider.will(hang_after("begun"))
    async with bench(tmp_path, module, provider, isolation=isolation) as agent:
        async with agent.served.ask(stream=True) as response:
            await response.content.readuntil(b"begun")
        request = await provider.arrival()
        async with asyncio.timeout(PATIENCE):
            await request.disconnected.wait()

        calls_weather(provider)
        chunks = await agent.streamed()
        refused = await agent.whole(400, tools=[TAKEN])
        provider.will(calling(call("pay", '{"euros":5}')), answer("Done."))
        asked = await agent.whole(user="ada")
        answered = await agent.whole(user="ada", messages=says(f"approve {code_in(asked)}"))
        paid = agent.paid

    assert text_of(chunks) == "I look. It is sunny."
    assert refused["error"]["param"] == "tools"
    assert answered["choices"][0]["message"]["content"].endswith("Done.")
    assert paid == ["5"]


def code_in(asked: dict[str, Any]) -> str:
    """The code in an answer that asks for an approval."""
    text = asked["choices"][0]["message"]["content"]
    found = re.search(r"approve ([A-Z0-9-]{8,})", text)
    assert found is not None, text
    return found[1]


FAULTS = {
    "a tool": (calling(call("fail", "{}")), 502, "agent_failed"),
    "the rate limit of the model": (fail(429), 429, "rate_limit_exceeded"),
    "the key of the model": (fail(401), 502, "provider_auth"),
    "a server of the model": (fail(500), 502, "provider_overloaded"),
    "a call of no tool": (calling(call("nothing", "{}")), 502, "provider_bad_response"),
}


@every_framework
async def test_what_fails_is_named_without_its_secrets(agent: Bench) -> None:
    found = {}
    for what, (behaviour, _, _) in FAULTS.items():
        agent.provider.default = behaviour
        async with agent.served.ask() as response:
            error = (await response.json())["error"]
            found[what] = (response.status, error["code"])
            assert "sk-secret" not in error["message"]
    agent.provider.default = answer("well")

    assert found == {what: (status, code) for what, (_, status, code) in FAULTS.items()}
    assert (await agent.whole())["choices"][0]["message"]["content"] == "well"


@every_framework
async def test_the_client_runs_its_own_tools(agent: Bench) -> None:
    both = [call("look", "{}", "c0", 0), call("weather", '{"city":"Rome"}', "c1", 1)]
    agent.provider.will(calling(*both))
    question = says("what is up?")
    chosen = {"type": "function", "function": {"name": "look"}}
    asked = (await agent.whole(messages=question, tools=[LOOK], tool_choice=chosen))["choices"][0]
    (handed,) = asked["message"]["tool_calls"]
    result = {"role": "tool", "tool_call_id": handed["id"], "content": "blue"}
    conversation = [*question, asked["message"], result]
    await agent.whole(messages=conversation, tools=[LOOK])
    sent = agent.sent()
    await agent.whole(tools=[LOOK], tool_choice="none")
    offered = [tool["function"]["name"] for tool in agent.provider.requests[-1].json["tools"]]
    calls_weather(agent.provider)
    await agent.whole(tools=[LOOK], tool_choice="required")
    first, *_, forced, free = [request.json for request in agent.provider.requests]

    assert asked["finish_reason"] == "tool_calls"
    assert handed["function"] == {"name": "look", "arguments": "{}"}
    assert sent[-1] == {"role": "tool", "tool_call_id": handed["id"], "content": "blue"}
    (again,) = sent[-2]["tool_calls"]
    assert (again["id"], again["function"]["name"]) == (handed["id"], "look")
    assert offered == ["weather", "pay", "fail"]
    assert first["tool_choice"] == chosen
    assert forced["tool_choice"] == "required"
    assert free.get("tool_choice", "auto") == "auto"


@every_framework
async def test_a_tool_of_the_client_with_the_name_of_one_of_the_agent_is_refused(
    agent: Bench,
) -> None:
    error = (await agent.whole(400, tools=[TAKEN]))["error"]

    assert error["param"] == "tools"
    assert "weather" in error["message"]


@pytest.mark.parametrize("decision", ["approve", "deny"])
@every_framework
async def test_an_approval_waits_through_a_restart(
    decision: str, module: str, tmp_path: Path, provider: FakeProvider
) -> None:
    pay = call("pay", '{"euros":5}', "c0", 0)
    weather = call("weather", '{"city":"Rome"}', "c1", 1)
    provider.will(calling(pay, weather, text="I pay."), answer("Done."))
    async with bench(tmp_path, module, provider) as agent:
        code = code_in(await agent.whole(user="ada"))
        assert agent.paid == []
    async with bench(tmp_path, module, provider) as agent:
        whole = await agent.whole(user="ada", messages=says(f"{decision} {code}"))
        called, *results = agent.sent()[-3:]
        await agent.whole(user="ada", messages=says("thanks"))

        assert agent.paid == (["5"] if decision == "approve" else [])
    assert whole["choices"][0]["message"]["content"].endswith("Done.")
    assert whole["usage"].items() >= TWICE.items()
    assert [one["id"] for one in called["tool_calls"]] == ["c0", "c1"]
    by_call = {result["tool_call_id"]: result["content"] for result in results}
    assert by_call["c1"] == "sun in Rome for main"
    assert by_call["c0"].startswith("paid 5" if decision == "approve" else "denied")
    kept = {m["tool_call_id"]: m["content"] for m in agent.sent() if m["role"] == "tool"}
    assert kept == by_call


@every_framework
async def test_the_format_of_the_request_reaches_the_model(agent: Bench) -> None:
    schema = {"type": "object", "properties": {"sky": {"type": "string"}}, "required": ["sky"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "sky", "schema": schema}}
    agent.provider.will(answer('{"sky":', '"blue"}'), answer('{"sky": "red"}'), answer("no"))

    whole = await agent.whole(response_format=wanted)
    sent = agent.provider.requests[0].json["response_format"]
    chunks = await agent.streamed(response_format=wanted)

    assert whole["choices"][0]["message"]["content"] == '{"sky":"blue"}'
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"]["properties"] == schema["properties"]
    assert text_of(chunks).replace(" ", "") == '{"sky":"red"}'


@every_framework
async def test_an_agent_is_described_and_followers_get_the_events_of_its_tools(
    agent: Bench, tmp_path: Path
) -> None:
    calls_weather(agent.provider)
    state = await agent.served.container.python_agents().loaded("main")
    url = agent.served.url.replace("http", "ws", 1)

    async with Client(Options(url=url, token=SECRET, client_id="cli", mode="cli")) as client:
        run = await client.run_agent("weather?", session_key="agent:main:socket")
        events = [replace(event, seq=0) async for event in run.events()]

    calls_weather(agent.provider)
    command = await asyncio.create_subprocess_exec(
        *(str(OPENSOUL), "agent", "-m", "weather?", "--url", url, "--token", SECRET),
        env={"HOME": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await command.communicate()

    started = next(event for event in events if isinstance(event, ToolStarted))
    finished = next(event for event in events if isinstance(event, ToolFinished))
    assert (started.call_id, started.name, started.arguments) == ("c1", "weather", {"city": "Rome"})
    assert (finished.call_id, finished.is_error) == ("c1", False)
    assert finished.text == "sun in Rome for main"
    assert run.text.endswith("It is sunny.")
    assert "It is sunny." in printed.decode()
    assert state.what.endswith(" with m and the tools weather, pay, fail")
