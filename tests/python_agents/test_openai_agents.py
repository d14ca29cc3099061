"""What only agents of the OpenAI Agents SDK have; test_every_framework.py has the rest."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from opensoul.adapters.python_agents import Status
from tests.app.serving import serving
from tests.fakes.behaviours import USAGE, answer, chunk
from tests.fakes.provider import FakeProvider
from tests.python_agents.agents import OPENAI_AGENTS
from tests.python_agents.bench import bench, call, calling, says, written
from tests.python_agents.conftest import Write, configured
from tests.python_agents.test_functions import text_of

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

STRUCTURED = """
    from pydantic import BaseModel
    class Sky(BaseModel):
        color: str
    agent = Agent("painter", model=model, output_type=Sky)
"""
LISTED = """
    agent = Agent("painter", model=model, output_type=list[str])
"""
FIRST_TOOL = """
    agent = Agent("watcher", model=model, tools=[weather], tool_use_behavior="stop_on_first_tool")
"""
HANDS_OVER = """
    expert = Agent("expert", instructions="You know it.", model=model)
    agent = Agent("desk", instructions="You ask others.", model=model, handoffs=[expert])
"""
REALTIME = """
    from agents.realtime import RealtimeAgent
    agent = RealtimeAgent("voice")
"""
GUARDED = """
    from agents import GuardrailFunctionOutput, input_guardrail
    @input_guardrail
    async def polite(ctx, agent, question) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info="", tripwire_triggered=True)
    agent = Agent("guarded", model=model, input_guardrails=[polite])
"""
REMEMBERS = """
    from agents import SQLiteSession
    agent.session = lambda key: SQLiteSession(key, "sessions.db")
"""
ASKS_SOMETIMES = """
    async def big(ctx, arguments, call_id) -> bool:
        return arguments["euros"] > 100
    @function_tool(needs_approval=big)
    def spend(euros: int) -> str:
        return f"spent {euros}"
    agent = Agent("buyer", model=model, tools=[spend])
"""
TRACED = """
    from agents import add_trace_processor
    from agents.tracing import TracingProcessor
    traced = []
    class Recorder(TracingProcessor):
        def on_trace_start(self, trace): traced.append(trace)
        def on_trace_end(self, trace): traced.append(trace)
        def on_span_start(self, span): traced.append(span)
        def on_span_end(self, span): traced.append(span)
        def shutdown(self): pass
        def force_flush(self): pass
    add_trace_processor(Recorder())
"""
BY_NAME = """
    from agents import Agent, set_default_openai_api
    set_default_openai_api("chat_completions")
    agent = Agent("named", model="m")
"""


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


OUTPUTS = {
    "object": (STRUCTURED, answer('{"color": ', '"blue"}'), '{"color":"blue"}'),
    "list": (LISTED, answer('{"response": ["a"]}'), '["a"]'),
    "tool": (FIRST_TOOL, calling(call("weather", '{"city":"Rome"}')), "sun in Rome for main"),
}


@pytest.mark.parametrize(("more", "behaviour", "text"), OUTPUTS.values(), ids=OUTPUTS)
async def test_an_output_that_is_not_what_the_model_wrote_is_answered_whole(
    more: str, behaviour: object, text: str, write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, OPENAI_AGENTS + more, provider)
    provider.default = behaviour  # type: ignore[assignment]

    async with bench(tmp_path, module, provider) as agent:
        whole = await agent.whole(user="ada")
        chunks = await agent.streamed(user="ada")

    assert whole["choices"][0]["message"]["content"] == text
    assert text_of(chunks) == text


async def test_another_agent_takes_over(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, OPENAI_AGENTS + HANDS_OVER, provider)
    provider.will(calling(call("transfer_to_expert", "{}")), answer("I know."))

    async with bench(tmp_path, module, provider) as agent:
        system = [{"role": "system", "content": "Be kind."}]
        whole = await agent.whole(user="ada", messages=[*system, *says("hello")])
        handed = agent.sent()
        await agent.whole(user="ada", messages=says("thanks"))
        later = agent.sent()

    assert whole["choices"][0]["message"]["content"] == "I know."
    assert whole["usage"]["prompt_tokens"] == 2 * USAGE["prompt_tokens"]
    assert handed[0] == {"role": "system", "content": "You know it.\n\nBe kind."}
    assert [(m["role"], m["content"]) for m in later] == [
        ("system", "You ask others."),
        ("user", "hello"),
        ("assistant", "I know."),
        ("user", "thanks"),
    ]


async def test_an_agent_of_another_kind_is_refused(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, OPENAI_AGENTS + REALTIME, provider)

    async with bench(tmp_path, module, provider) as agent:
        state = await agent.served.container.python_agents().loaded("main")

    assert state.status is Status.FAILED
    assert "RealtimeAgent" in state.what


async def test_limits_and_guardrails_are_named(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    guarded = written(write, tmp_path, OPENAI_AGENTS + GUARDED, provider)
    module = written(write, tmp_path, OPENAI_AGENTS, provider)

    async with bench(tmp_path, guarded, provider) as agent:
        error = (await agent.whole(502))["error"]
    provider.default = calling(call("weather", '{"city":"Rome"}'))
    async with bench(tmp_path, module, provider) as agent:
        endless = (await agent.whole(502))["error"]

    assert "guardrail `polite`" in error["message"]
    assert "50 times" in endless["message"]


async def test_a_refusal_is_an_answer(write: Write, tmp_path: Path, provider: FakeProvider) -> None:
    module = written(write, tmp_path, OPENAI_AGENTS + STRUCTURED, provider)

    async def refuse(exchange: object) -> None:
        await exchange.head()  # type: ignore[attr-defined]
        await exchange.event(chunk({"role": "assistant", "refusal": "No."}))  # type: ignore[attr-defined]
        await exchange.event(chunk({}, "stop"))  # type: ignore[attr-defined]
        await exchange.end()  # type: ignore[attr-defined]

    provider.default = refuse
    async with bench(tmp_path, module, provider) as agent:
        message = (await agent.whole())["choices"][0]["message"]

    assert message["refusal"] == "No."


async def test_a_session_of_the_sdk_keeps_the_history(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    database = f'"{tmp_path / "sessions.db"}"'
    remembers = REMEMBERS.replace('"sessions.db"', database)
    module = written(write, tmp_path, OPENAI_AGENTS + remembers, provider)
    forgets = written(write, tmp_path, OPENAI_AGENTS, provider)

    async with bench(tmp_path, module, provider, memory="framework") as agent:
        await agent.whole(user="ada", messages=says("one"))
        await agent.whole(user="eve", messages=says("other"))
        await agent.whole(user="ada", messages=says("two"))
        sent = [message["content"] for message in agent.sent()]
    async with bench(tmp_path, forgets, provider, memory="framework") as agent:
        error = (await agent.whole(502))["error"]

    assert sent == ["Be brief.", "one", "Hello there", "two"]
    assert "SQLiteSession" in error["message"]


async def test_a_tool_may_need_an_approval_for_some_calls(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, OPENAI_AGENTS + ASKS_SOMETIMES, provider)
    small = call("spend", '{"euros":5}', "c0", 0)
    big = call("spend", '{"euros":500}', "c1", 1)
    provider.will(calling(small, big), answer("Bought."))

    async with bench(tmp_path, module, provider) as agent:
        asked = (await agent.whole(user="ada"))["choices"][0]["message"]["content"]
        (code,) = re.findall(r"approve ([A-Z0-9-]{8,})", asked)
        whole = await agent.whole(user="ada", messages=says(f"approve {code}"))
        results = [m["content"] for m in agent.sent() if m["role"] == "tool"]

    assert whole["choices"][0]["message"]["content"].endswith("Bought.")
    assert sorted(results) == ["spent 5", "spent 500"]


async def test_nothing_is_traced(write: Write, tmp_path: Path, provider: FakeProvider) -> None:
    module = written(write, tmp_path, OPENAI_AGENTS + TRACED, provider)

    async with bench(tmp_path, module, provider) as agent:
        await agent.whole()
        assert sys.modules[module].traced == []


async def test_agents_of_two_packages_name_their_models(
    write: Write, tmp_path: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    targets = [{"target": f"{write(BY_NAME)}:agent"} for _ in range(2)]

    async with serving(tmp_path, configured(*targets)) as served:
        models = ("opensoul/main", "opensoul/a1")
        texts = [await served.text(model=model) for model in (*models, *models)]

    assert texts == ["Hello there"] * 4
