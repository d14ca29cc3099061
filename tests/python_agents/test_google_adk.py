"""Agents of Google's Agent Development Kit, through the chat endpoint of a real Gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.app.serving import serving
from tests.fakes.behaviours import answer, json_instead_of_sse
from tests.fakes.provider import FakeProvider
from tests.python_agents.conftest import Write, configured
from tests.python_agents.frameworks import calls, events_of, says, usage_of
from tests.python_agents.test_functions import streamed, text_of

pytest.importorskip("google.adk", reason="`make test-frameworks` installs it")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # What LiteLLM and the kit announce.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

HEAD = """
    from google.adk.agents import LlmAgent
    from google.adk.apps import App
    from google.adk.models.lite_llm import LiteLlm
    from google.adk.runners import Runner
    from google.adk.sessions import InMemorySessionService
    from google.adk.tools import AgentTool, FunctionTool, ToolContext
    model = LiteLlm(model="openai/m", api_base="{url}", api_key="none")
    def weather(city: str) -> str:
        "The weather in a city."
        if city == "Atlantis":
            raise LookupError("sk-secret")
        return f"sunny in {{city}}"
"""
AGENT = """
    agent = LlmAgent(name="guide", model=model, tools=[weather], instruction="Be brief.")
"""
APP = """
    agent = App(name="my_app", root_agent=LlmAgent(name="guide", model=model, tools=[weather]))
"""
RUNNER = """
    agent = Runner(
        app_name="my_app",
        agent=LlmAgent(name="guide", model=model, tools=[weather]),
        session_service=InMemorySessionService(),
    )
"""
KINDS = {
    "agent": (AGENT, "thread"),
    "process": (AGENT, "process"),
    "app": (APP, "inline"),
    "runner": (RUNNER, "thread"),
}


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
def agent(write: Write, provider: FakeProvider) -> Any:
    """Writes a module with an agent on the fake provider; its target."""

    def module(text: str) -> str:
        return f"{write((HEAD + text).format(url=provider.base_url))}:agent"

    return module


@pytest.mark.parametrize(("text", "isolation"), KINDS.values(), ids=KINDS)
async def test_an_agent_answers_with_its_tool(
    text: str, isolation: str, agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    content = configured({"target": agent(text), "isolation": isolation})
    provider.will(
        calls(("weather", {"city": "Paris"}), text="I look. "),
        answer("It is", " sunny."),
        calls(("weather", {"city": "Rome"})),
        answer("Also", " sunny."),
    )

    async with serving(tmp_path, content) as served:
        async with served.ask(messages=says("Paris?")) as response:
            whole = await response.json()
            assert response.status == 200, whole
            events = await events_of(served, response.headers["x-opensoul-run-id"])
        chunks = await streamed(
            served, messages=says("Rome?"), stream_options={"include_usage": True}
        )

    assert whole["choices"][0]["message"]["content"] == "I look. It is sunny."
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert {name: whole["usage"][name] for name in usage_of(2)} == usage_of(2)
    assert text_of(chunks) == "Also sunny."
    assert {name: chunks[-1]["usage"][name] for name in usage_of(2)} == usage_of(2)
    started, finished = [event for event in events if event["type"].startswith("tool_")]
    assert (started["type"], started["name"]) == ("tool_started", "weather")
    assert json.loads(started["arguments"]) == {"city": "Paris"}
    assert (finished["type"], finished["text"]) == ("tool_finished", "sunny in Paris")


async def test_text_and_reasoning_arrive_before_the_end(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    provider.will(answer("It", " is.", reasoning=["Hm."], gate=gate))

    async with (
        serving(tmp_path, configured({"target": agent(AGENT)})) as served,
        served.ask(stream=True) as response,
    ):
        await response.content.readuntil(b'"It"')
        gate.set()
        await response.content.read()
        events = await events_of(served, response.headers["x-opensoul-run-id"])

    thought = [event for event in events if event["type"] == "reasoning_delta"]
    assert [event["delta"] for event in thought] == ["Hm."]


REVIEWED = """
    tool = FunctionTool(weather, require_confirmation=True)
    agent = LlmAgent(name="guide", model=model, tools=[tool])
"""


async def test_own_tools_run_beside_calls_of_the_clients(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(calls(("look", {}), ("weather", {"city": "Rome"})), answer("Blue and sunny."))
    tools = [{"type": "function", "function": {"name": "look"}}]

    async with serving(tmp_path, configured({"target": agent(AGENT)})) as served:
        async with served.ask(messages=says("What is up?"), tools=tools, user="ada") as response:
            choice = (await response.json())["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        result = {"role": "tool", "tool_call_id": call["id"], "content": "blue"}
        text = await served.text(messages=[result], tools=tools, user="ada")

    assert call["function"]["name"] == "look"
    assert text == "Blue and sunny."
    results = [m["content"] for m in provider.requests[1].json["messages"] if m["role"] == "tool"]
    assert sorted(results) == ['{"result": "blue"}', '{"result": "sunny in Rome"}']


INNER = """
    expert = LlmAgent(name="expert", model=model)
    agent = LlmAgent(name="guide", model=model, tools=[AgentTool(expert)])
"""


async def test_an_agent_that_a_tool_calls_is_metered_and_not_streamed(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(
        calls(("expert", {"request": "Why?"})),
        json_instead_of_sse("an inner answer"),
        answer("Done."),
    )
    messages = [{"role": "system", "content": "Be kind."}, *says("hello")]

    async with (
        serving(tmp_path, configured({"target": agent(INNER)})) as served,
        served.ask(messages=messages, temperature=0.25, max_tokens=9) as response,
    ):
        whole = await response.json()

    assert whole["choices"][0]["message"]["content"] == "Done."
    assert {name: whole["usage"][name] for name in usage_of(3)} == usage_of(3)
    outer, inner, _ = [request.json for request in provider.requests]
    assert (outer["temperature"], outer["max_completion_tokens"]) == (0.25, 9)
    assert "Be kind." in outer["messages"][0]["content"]
    assert "temperature" not in inner
    assert "Be kind." not in json.dumps(inner)


CONTEXT = """
    def whoami(tool_context: ToolContext) -> str:
        "Who asks."
        state = tool_context.state
        return state["opensoul_session_key"] + " " + state["opensoul_agent_id"]
    agent = LlmAgent(
        name="guide", model=model, tools=[whoami], instruction="For {{opensoul_agent_id}}."
    )
"""


async def test_the_run_reaches_tools(agent: Any, provider: FakeProvider, tmp_path: Path) -> None:
    provider.will(calls(("whoami", {})), answer("Done."))

    async with (
        serving(tmp_path, configured({"target": agent(CONTEXT)})) as served,
        served.ask() as response,
    ):
        key = response.headers["x-opensoul-session-key"]

    result = json.loads(provider.requests[1].json["messages"][-1]["content"])
    assert result == {"result": f"{key} main"}
    assert "For main." in provider.requests[0].json["messages"][0]["content"]


@pytest.mark.parametrize("memory", ["gateway", "framework"])
async def test_each_message_of_a_session_is_there_once(
    memory: str, agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(answer("One."), answer("Two."), answer("Three."))
    content = configured({"target": agent(RUNNER), "memory": memory})

    async with serving(tmp_path, content) as served:
        for question in ("first", "second"):
            await served.text(messages=says(question), user="ada")
        await served.text(messages=says("third"), user="bob")

    texts = [[m["content"] for m in request.json["messages"][1:]] for request in provider.requests]
    assert texts == [["first"], ["first", "One.", "second"], ["third"]]


async def test_memory_of_the_framework_needs_a_runner(agent: Any, tmp_path: Path) -> None:
    content = configured({"target": agent(AGENT), "memory": "framework"})

    async with serving(tmp_path, content) as served, served.ask() as response:
        body = await response.json()

    assert response.status == 502
    assert "google.adk.runners.Runner" in body["error"]["message"]


STRUCTURED = """
    from pydantic import BaseModel
    class Weather(BaseModel):
        city: str
        degrees: int
    agent = LlmAgent(name="guide", model=model, output_schema=Weather)
"""


async def test_structured_output_is_the_answer(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    output = json.dumps({"city": "Paris", "degrees": 20})
    provider.will(answer(output))

    async with serving(tmp_path, configured({"target": agent(STRUCTURED)})) as served:
        text = await served.text()

    assert json.loads(text) == json.loads(output)
    assert provider.requests[0].json["response_format"]["type"] == "json_schema"
