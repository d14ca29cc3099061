"""The Gateway's own models, called by the code of agents with OpenAI's client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from opensoul.api import model
from tests.app.serving import provider as fake
from tests.app.serving import serving
from tests.fakes import behaviours
from tests.fakes.provider import PATIENCE, FakeProvider
from tests.python_agents.conftest import Write, configured

AGENT = """
    from openai import AsyncOpenAI
    from opensoul.api import model
    there = model({name!r})
    async def agent(run):
        question = [{{"role": "user", "content": "from the agent"}}]
        async with AsyncOpenAI(
            base_url=there.base_url, api_key=there.api_key, max_retries=0
        ) as client:
            if run.text == "whole":
                answer = await client.chat.completions.create(model=there.name, messages=question)
                yield answer.choices[0].message.content
                yield f" {{answer.usage.total_tokens}}"
                return
            stream = await client.chat.completions.create(
                model=there.name, messages=question, stream=True
            )
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content
"""


def says(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("isolation", ["thread", "inline", "process"])
async def test_an_agent_calls_a_model_of_the_gateway(
    isolation: str, write: Write, tmp_path: Path
) -> None:
    target = f"{write(AGENT.format(name='fake/m'))}:agent"

    async with FakeProvider(behaviours.answer("Hel", "lo")) as provider:
        content = configured({"target": target, "isolation": isolation}) | {
            "models": {"providers": {"fake": fake(provider.base_url, apiKey="sk-of-the-gateway")}}
        }
        async with serving(tmp_path, content) as served:
            streamed = await served.text(messages=says("streamed"))
            whole = await served.text(messages=says("whole"))

    assert streamed == "Hello"
    assert whole.startswith("Hello ")
    assert {r.headers["authorization"] for r in provider.requests} == {"Bearer sk-of-the-gateway"}
    assert provider.requests[0].json["messages"] == says("from the agent")
    assert provider.requests[0].json["model"] == "m"


async def test_the_default_is_the_agents_own_model_with_its_fallbacks(
    write: Write, tmp_path: Path
) -> None:
    target = f"{write(AGENT.format(name='default'))}:agent"

    async with FakeProvider(behaviours.answer("Fine.")) as provider:
        provider.will(behaviours.fail(500, "broken"))
        content = configured({"target": target}) | {
            "models": {"providers": {"fake": fake(provider.base_url, "m", "n")}}
        }
        content["agents"]["list"][0]["model"] = {"primary": "fake/m", "fallbacks": ["fake/n"]}
        async with serving(tmp_path, content) as served:
            text = await served.text()

    assert text == "Fine."
    assert [request.json["model"] for request in provider.requests] == ["m", "n"]


async def test_a_failure_of_the_provider_is_one_of_the_agents_model(
    write: Write, tmp_path: Path
) -> None:
    target = f"{write(AGENT.format(name='fake/m'))}:agent"

    async with FakeProvider(behaviours.fail(401, "wrong key")) as provider:
        content = configured({"target": target}) | {
            "models": {"providers": {"fake": fake(provider.base_url)}}
        }
        async with serving(tmp_path, content) as served, served.ask() as response:
            answer = await response.json()

    assert response.status == 502
    assert "wrong key" not in str(answer)


async def test_the_providers_connection_ends_with_the_client(write: Write, tmp_path: Path) -> None:
    target = f"{write(AGENT.format(name='fake/m'))}:agent"

    async with FakeProvider(behaviours.hang_after("begun")) as provider:
        content = configured({"target": target}) | {
            "models": {"providers": {"fake": fake(provider.base_url)}}
        }
        async with serving(tmp_path, content) as served:
            async with served.ask(stream=True, messages=says("streamed")) as response:
                await response.content.readuntil(b"begun")
                request = await provider.arrival()
            async with asyncio.timeout(PATIENCE):
                await request.disconnected.wait()


async def test_only_agents_are_served(write: Write, tmp_path: Path) -> None:
    name = write(AGENT.format(name="default"))

    async with serving(tmp_path, configured({"target": f"{name}:agent"})) as served:
        await served.container.python_agents().loaded("main")
        server = served.container.model_server()
        url = await server.start()
        body = {"model": "default", "messages": says("hello")}
        async with aiohttp.ClientSession() as client:
            statuses = []
            for key in ("", "agent-main-00", server.key_of("nobody")):
                headers = {"Authorization": f"Bearer {key}"}
                async with client.post(
                    f"{url}/chat/completions", json=body, headers=headers
                ) as response:
                    statuses.append(response.status)

    assert statuses == [401, 401, 404]


def test_without_a_gateway_there_are_no_models() -> None:
    with pytest.raises(RuntimeError, match="No Gateway runs this code"):
        model()
