"""The same agent in each framework, through the APIs of a real Gateway."""

from __future__ import annotations

import asyncio
import json
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
from tests.fakes.behaviours import USAGE, answer, hang_after, json_instead_of_sse
from tests.fakes.provider import PATIENCE, FakeProvider
from tests.python_agents.agents import FAULTS, KINDS, Kind, every_framework
from tests.python_agents.bench import Bench, bench, call, calling, says, text_in, written
from tests.python_agents.conftest import Write
from tests.python_agents.test_functions import text_of

pytestmark = [
    # Clients of models stay connected until they are collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # What LiteLLM and Google's kit announce, and LangChain of contexts that are no models.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

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
def kind(framework: str) -> Kind:
    return KINDS[framework]


@pytest.fixture
def module(kind: Kind, write: Write, tmp_path: Path, provider: FakeProvider) -> str:
    return written(write, tmp_path, kind.text, provider)


@pytest_asyncio.fixture
async def agent(
    kind: Kind, module: str, tmp_path: Path, provider: FakeProvider
) -> AsyncIterator[Bench]:
    async with bench(tmp_path, module, provider, **kind.runner) as served:
        yield served


def calls_weather(provider: FakeProvider) -> None:
    provider.will(calling(WEATHER, text="I look. ", reasoning=["hm"]), answer("It is ", "sunny."))


def arguments(made: dict[str, Any]) -> Any:
    return json.loads(made["function"]["arguments"])


@every_framework()
async def test_the_official_client_gets_answers_with_the_usage_of_all_model_calls(
    agent: Bench, kind: Kind
) -> None:
    calls_weather(agent.provider)
    calls_weather(agent.provider)
    question: Any = [{"role": "system", "content": "Be kind."}, *says("hello")]
    wanted: Any = {"temperature": 0.5, "stop": ["END"], "seed": 7}
    url = f"{agent.served.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=SECRET, max_retries=0) as client:
        create = client.chat.completions.create
        whole = await create(model="opensoul", messages=question, max_tokens=9, **wanted)
        stream = await create(
            model="opensoul",
            messages=question,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    request, _, later, _ = [received.json for received in agent.provider.requests]

    assert whole.choices[0].message.content is not None
    assert whole.choices[0].message.content.endswith("It is sunny.")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.model_dump().items() >= TWICE.items()
    assert {name: request[name] for name in kind.params} == {n: wanted[n] for n in kind.params}
    assert not {"temperature", "max_tokens", "max_completion_tokens"} & later.keys()
    if kind.params:
        assert 9 in (request.get("max_tokens"), request.get("max_completion_tokens"))
    system = " ".join(text_in(m) for m in request["messages"] if m["role"] == "system")
    assert "Be brief." in system
    assert "Be kind." in system
    assert text_in(agent.sent(1)[-1]) == kind.result("sun in Rome for main")
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "I look. It is sunny."
    thoughts = [(delta.model_extra or {}).get("reasoning_content", "") for delta in deltas]
    assert "".join(thoughts) == ("hm" if kind.reasoning else "")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.model_dump().items() >= TWICE.items()
    assert agent.ran == ["weather stored"] * 2


@every_framework()
async def test_usage_that_nobody_reports_is_estimated(agent: Bench) -> None:
    agent.provider.will(answer("Hello", usage=None))

    whole = await agent.whole()

    assert whole["usage"]["prompt_tokens"] > 0
    assert whole["usage"]["completion_tokens"] > 0


@every_framework()
async def test_a_call_is_stored_first_where_the_model_reports_no_usage(agent: Bench) -> None:
    agent.provider.will(calling(WEATHER, usage=None), answer("Sunny.", usage=None))

    await agent.whole()

    assert agent.ran == ["weather stored"]


@every_framework("google-adk")  # LiteLLM repairs them.
async def test_the_model_gets_an_error_for_broken_arguments(agent: Bench) -> None:
    agent.provider.will(calling(call("weather", '{"city":"Ro')), answer("Sorry."))

    whole = await agent.whole(user="ada")
    error = agent.sent()[-1]
    await agent.whole(user="ada")
    kept = [message for message in agent.sent() if message["role"] == "tool"]

    assert whole["choices"][0]["message"]["content"] == "Sorry."
    assert error["role"] == "tool"
    assert [message["tool_call_id"] for message in kept] == [error["tool_call_id"]]


@every_framework()
async def test_the_third_turn_has_the_calls_and_pictures_of_the_others(
    agent: Bench, kind: Kind
) -> None:
    calls_weather(agent.provider)
    await agent.whole(user="ada", messages=says("weather?"))
    look = [{"role": "user", "content": [{"type": "text", "text": "look"}, PICTURE]}]
    await agent.whole(user="ada", messages=look)
    await agent.whole(user="ada", messages=says("and now?"))

    asked, called, result, said, *shown, seen, last = agent.talk()
    assert "Be brief." in text_in(agent.sent()[0])
    assert text_in(asked) == "weather?"
    assert text_in(called) == "I look. "
    (made,) = called["tool_calls"]
    assert (made["function"]["name"], arguments(made)) == ("weather", {"city": "Rome"})
    assert result["tool_call_id"] == made["id"]
    assert text_in(result) == kind.result("sun in Rome for main")
    assert text_in(said) == "It is sunny."
    parts = [part for message in shown for part in message["content"] if message["role"] == "user"]
    assert PNG in json.dumps(parts)
    assert "look" in json.dumps(shown)
    assert text_in(seen) == "Hello there"
    assert text_in(last) == "and now?"


@every_framework()
async def test_successive_messages_of_one_side_lose_no_new_ones(agent: Bench, kind: Kind) -> None:
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
    assert called["tool_calls"][0]["function"]["name"] == "weather"
    assert (result["role"], text_in(result)) == ("tool", kind.result("sun in Rome for main"))
    assert (text_in(said), text_in(last)) == ("It is sunny.", "six")


@pytest.mark.parametrize(
    "isolation", ["thread", pytest.param("process", marks=pytest.mark.e2e), "inline"]
)
@every_framework()
async def test_runs_cross_over_to_where_the_code_of_the_agent_is(
    isolation: str, kind: Kind, module: str, tmp_path: Path, provider: FakeProvider
) -> None:
    if kind.isolation == "process" != isolation:
        pytest.skip("the framework needs a process of its own")
    provider.will(hang_after("begun"))
    async with bench(tmp_path, module, provider, **kind.runner | {"isolation": isolation}) as agent:
        async with agent.served.ask(stream=True) as response:
            await response.content.readuntil(b"begun")
        request = await provider.arrival()
        async with asyncio.timeout(PATIENCE):
            await request.disconnected.wait()

        calls_weather(provider)
        chunks = await agent.streamed()
        if kind.tool_choice:
            refused = await agent.whole(400, tools=[TAKEN])
            assert refused["error"]["param"] == "tools"
        provider.will(calling(call("pay", '{"euros":5}')), answer("Done."))
        asked = await agent.whole(user="ada")
        answered = await agent.whole(user="ada", messages=says(f"approve {code_in(asked)}"))
        ran = agent.ran

    assert text_of(chunks) == "I look. It is sunny."
    assert answered["choices"][0]["message"]["content"].endswith("Done.")
    assert ran == ["weather stored", "pay stored"]


def code_in(asked: dict[str, Any]) -> str:
    """The code in an answer that asks for an approval."""
    text = asked["choices"][0]["message"]["content"]
    found = re.search(r"approve ([A-Z0-9-]{8,})", text)
    assert found is not None, text
    return found[1]


@every_framework()
async def test_a_server_may_use_the_id_of_a_call_again_in_the_next_answer(agent: Bench) -> None:
    cities = ("Rome", "Oslo", "Bern")
    for city in cities:
        again = calling(call("weather", json.dumps({"city": city})))
        agent.provider.will(again, answer(f"It is sunny in {city}."))

    await agent.whole(user="ada")
    await agent.whole(user="ada", messages=says("and Oslo"))
    whole = await agent.whole(user="ada", messages=says("and Bern"))
    sent = agent.talk()
    results = [text_in(message) for message in sent if message["role"] == "tool"]

    assert whole["choices"][0]["message"]["content"].endswith("sunny in Bern.")
    # Google ADK puts what a tool returned into an object.
    assert [re.findall(r"sun in (\w+)", text) for text in results] == [[city] for city in cities]
    assert [message["role"] for message in sent[-3:]] == ["user", "assistant", "tool"]


@every_framework()
async def test_what_fails_is_named_without_its_secrets(agent: Bench, kind: Kind) -> None:
    found = {}
    for what, (behaviour, _) in FAULTS.items():
        agent.provider.default = behaviour
        async with agent.served.ask() as response:
            error = (await response.json())["error"]
            found[what] = (response.status, error["code"])
            assert "sk-secret" not in error["message"]
    agent.provider.default = answer("well")

    assert found == {what: code for what, (_, code) in FAULTS.items()} | dict(kind.faults)
    assert (await agent.whole())["choices"][0]["message"]["content"] == "well"


@every_framework()
async def test_what_a_tool_raises_is_no_secret_of_the_clients(agent: Bench, kind: Kind) -> None:
    agent.provider.will(calling(call("fail", "{}")), answer("It failed."))

    if kind.raises:
        error = (await agent.whole(502))["error"]
        assert error["code"] == "agent_failed"
        assert "sk-secret" not in error["message"]
    else:
        whole = await agent.whole()
        assert whole["choices"][0]["message"]["content"] == "It failed."
    assert (await agent.whole())["choices"][0]["message"]["content"]


@every_framework("langgraph", "google-adk", "agno", "agent-framework", "strands")
async def test_a_call_of_no_tool_is_a_bad_answer_of_the_model(agent: Bench) -> None:
    agent.provider.default = calling(call("nothing", "{}"))

    error = (await agent.whole(502))["error"]

    assert error["code"] == "provider_bad_response"


@every_framework("langgraph", "strands")
async def test_the_client_runs_its_own_tools(agent: Bench, kind: Kind) -> None:
    both = [call("look", "{}", "c0", 0), call("weather", '{"city":"Rome"}', "c1", 1)]
    agent.provider.will(calling(*both))
    question = says("what is up?")
    chosen = {"type": "function", "function": {"name": "look"}}
    asked = (await agent.whole(messages=question, tools=[LOOK], tool_choice=chosen))["choices"][0]
    (handed,) = asked["message"]["tool_calls"]
    result = {"role": "tool", "tool_call_id": handed["id"], "content": "blue"}
    conversation = [*question, asked["message"], result]
    await agent.whole(messages=conversation, tools=[LOOK])
    talk = agent.talk()
    await agent.whole(tools=[LOOK], tool_choice="none")
    offered = [tool["function"]["name"] for tool in agent.provider.requests[-1].json["tools"]]
    calls_weather(agent.provider)
    await agent.whole(tools=[LOOK], tool_choice="required")
    first, *_, forced, free = [request.json for request in agent.provider.requests]

    assert asked["finish_reason"] == "tool_calls"
    assert (handed["function"]["name"], arguments(handed)) == ("look", {})
    results = {m["tool_call_id"]: text_in(m) for m in talk if m["role"] == "tool"}
    made = [(c["id"], c["function"]["name"]) for m in talk for c in m.get("tool_calls") or ()]
    assert text_in(talk[-1]) == kind.result("blue")
    assert results[handed["id"]] == kind.result("blue")
    assert (handed["id"], "look") in made
    assert sorted(offered) == ["fail", "pay", "weather"]
    if kind.tool_choice:
        assert first["tool_choice"] == chosen
        assert forced["tool_choice"] == "required"
        assert free.get("tool_choice", "auto") == "auto"


@every_framework("langgraph", "google-adk", "agno", "agent-framework", "strands")
async def test_a_tool_of_the_client_with_the_name_of_one_of_the_agent_is_refused(
    agent: Bench,
) -> None:
    error = (await agent.whole(400, tools=[TAKEN]))["error"]

    assert error["param"] == "tools"
    assert "weather" in error["message"]


@pytest.mark.parametrize("decision", ["approve", "deny"])
@every_framework()
async def test_an_approval_waits_through_a_restart(
    decision: str, kind: Kind, module: str, tmp_path: Path, provider: FakeProvider
) -> None:
    provider.will(calling(call("pay", '{"euros":5}', "c0"), text="I pay."), answer("Done."))
    async with bench(tmp_path, module, provider, **kind.runner) as agent:
        code = code_in(await agent.whole(user="ada"))
        assert agent.ran == []
    async with bench(tmp_path, module, provider, **kind.runner) as agent:
        whole = await agent.whole(user="ada", messages=says(f"{decision} {code}"))
        called, result = agent.sent()[-2:]
        await agent.whole(user="ada", messages=says("thanks"))

        assert agent.ran == (["pay stored"] if decision == "approve" else [])
    assert whole["choices"][0]["message"]["content"].endswith("Done.")
    assert whole["usage"].items() >= TWICE.items()
    (made,) = called["tool_calls"]
    assert result["tool_call_id"] == made["id"]
    assert ("paid 5" in text_in(result)) == (decision == "approve")
    (kept,) = [message for message in agent.sent() if message["role"] == "tool"]
    assert kept["tool_call_id"] == made["id"]
    assert ("paid 5" in text_in(kept)) == (decision == "approve")


@pytest.mark.parametrize("decision", ["approve", "deny"])
@every_framework("google-adk", "agno", "agent-framework", "langgraph", "strands")
async def test_a_call_that_needs_no_approval_does_not_wait_for_one_that_does(
    decision: str, module: str, tmp_path: Path, provider: FakeProvider
) -> None:
    pay = call("pay", '{"euros":5}', "c0", 0)
    weather = call("weather", '{"city":"Rome"}', "c1", 1)
    provider.will(calling(pay, weather, text="I pay."), answer("Done."))
    async with bench(tmp_path, module, provider) as agent:
        code = code_in(await agent.whole(user="ada"))
    async with bench(tmp_path, module, provider) as agent:
        await agent.whole(user="ada", messages=says(f"{decision} {code}"))
        called, *results = agent.sent()[-3:]
        ran = agent.ran

    assert ran == ["weather stored", *(["pay stored"] if decision == "approve" else [])]
    assert [one["id"] for one in called["tool_calls"]] == ["c0", "c1"]
    by_call = {result["tool_call_id"]: result["content"] for result in results}
    assert by_call["c1"] == "sun in Rome for main"
    assert by_call["c0"].startswith("paid 5" if decision == "approve" else "denied")


@every_framework("langgraph", "strands")
async def test_the_format_of_the_request_reaches_the_model(agent: Bench, framework: str) -> None:
    schema = {"type": "object", "properties": {"sky": {"type": "string"}}, "required": ["sky"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "sky", "schema": schema}}
    whole_text = '{"sky":"blue"}'
    if framework == "agno":  # It does not stream such answers.
        agent.provider.will(json_instead_of_sse(whole_text), json_instead_of_sse('{"sky": "red"}'))
    else:
        agent.provider.will(answer('{"sky":', '"blue"}'), answer('{"sky": "red"}'))

    whole = await agent.whole(response_format=wanted)
    sent = agent.provider.requests[0].json["response_format"]
    chunks = await agent.streamed(response_format=wanted)

    assert json.loads(whole["choices"][0]["message"]["content"]) == {"sky": "blue"}
    assert sent["type"].startswith("json_")
    assert json.loads(text_of(chunks)) == {"sky": "red"}


@every_framework()
async def test_an_agent_is_described_and_followers_get_the_events_of_its_tools(
    agent: Bench, kind: Kind, tmp_path: Path
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

    (started,) = [event for event in events if isinstance(event, ToolStarted)]
    (finished,) = [event for event in events if isinstance(event, ToolFinished)]
    assert (started.call_id, started.name, started.arguments) == ("c1", "weather", {"city": "Rome"})
    assert (finished.call_id, finished.is_error) == ("c1", False)
    assert finished.text == "sun in Rome for main"
    assert run.text.endswith("It is sunny.")
    assert "It is sunny." in printed.decode()
    assert kind.what in state.what
