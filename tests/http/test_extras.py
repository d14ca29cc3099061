"""Reasoning and tool activity in answers, as the headers of a request choose."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.app.serving import SECRET, Served, config, serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

from .test_client_tools import call, calling

TOOLS = {"tools": {"allow": ["read"]}}
EVENTS = {"x-opensoul-events": "tools"}


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "a.txt").write_text("two\nlines")
    agent = {"model": {"primary": "fake/m"}, "workspace": str(workspace)}
    content = config(provider.base_url, agents={"defaults": agent}, **TOOLS)
    async with serving(tmp_path, content) as served:
        yield served


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("setting", "header", "included"),
    [
        (None, None, True),
        (None, "omit", False),
        ("omit", None, False),
        ("omit", "Include", True),
        ("include", None, True),
    ],
)
async def test_reasoning_is_in_the_answer_where_it_is_wanted(
    tmp_path: Path,
    provider: FakeProvider,
    stream: bool,
    setting: str | None,
    header: str | None,
    included: bool,
) -> None:
    content = config(provider.base_url)
    if setting is not None:
        content["gateway"]["http"]["endpoints"]["chatCompletions"]["reasoning"] = setting
    headers = {} if header is None else {"x-opensoul-reasoning": header}
    provider.will(answer("Yes.", reasoning=["Hm."]))
    async with (
        serving(tmp_path, content) as served,
        served.ask(headers, stream=stream) as response,
    ):
        body = await response.text()

    assert response.status == 200
    assert "x-opensoul-ignored" not in response.headers
    assert "Yes." in body
    assert ('"reasoning_content":"Hm."' in body) is included


@pytest.mark.parametrize(
    ("name", "value"), [("x-opensoul-reasoning", "maybe"), ("x-opensoul-events", "tools, all")]
)
async def test_another_value_of_a_header_is_refused(
    served: Served, provider: FakeProvider, name: str, value: str
) -> None:
    async with served.ask({name: value}) as response:
        error = (await response.json())["error"]

    assert (response.status, error["param"]) == (400, name)
    assert not provider.requests


def looks_into_a_file(provider: FakeProvider) -> None:
    reads = [call("read", {"path": "a.txt"}, "c1"), call("read", {"path": "b.txt"}, "c2", 1)]
    provider.will(calling(*reads, text="I look."), answer("Done."))


def events_of(body: str) -> list[tuple[str, Any]]:
    """The name and the data of each event, read as the standard says."""
    events = []
    for block in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line)
        if "data" in fields:
            data = fields["data"]
            parsed = data if data == "[DONE]" else json.loads(data)
            events.append((fields.get("event", "message"), parsed))
    return events


async def test_tool_activity_is_streamed_as_events_with_a_name(
    served: Served, provider: FakeProvider
) -> None:
    looks_into_a_file(provider)
    async with served.ask(EVENTS, stream=True) as response:
        events = events_of(await response.text())

    tools = [data["tool"] for name, data in events if name == "opensoul.tool"]
    by_call: dict[str, list[Mapping[str, Any]]] = {}
    for tool in tools:
        assert tool["name"] == "read"
        by_call.setdefault(tool["id"], []).append(tool)
    (started, finished), (_, failed) = by_call["c1"], by_call["c2"]
    assert (started["status"], json.loads(started["arguments"])) == ("started", {"path": "a.txt"})
    assert finished["status"] == "finished"
    assert "two\nlines" in finished["result"]
    assert failed["status"] == "failed"
    names = [name for name, _ in events]
    assert names[0] == "message", "the role comes first"
    chunks = [data for name, data in events if name == "message" and data != "[DONE]"]
    assert not [chunk for chunk in chunks if "tool" in chunk]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == "I look.\n\nDone."
    assert len({data["id"] for _, data in events if data != "[DONE]"}) == 1


@pytest.mark.parametrize(("headers", "stream"), [({}, True), (EVENTS, False)])
async def test_there_are_no_events_otherwise(
    served: Served, provider: FakeProvider, headers: Mapping[str, str], stream: bool
) -> None:
    looks_into_a_file(provider)
    async with served.ask(headers, stream=stream) as response:
        body = await response.text()

    assert response.status == 200
    assert "opensoul.tool" not in body
    assert '"tool":' not in body


async def test_the_official_client_reads_a_stream_with_events(
    served: Served, provider: FakeProvider
) -> None:
    """It takes an event of any name for a chunk."""
    looks_into_a_file(provider)
    async with AsyncOpenAI(
        base_url=f"{served.url}/v1", api_key=SECRET, default_headers=EVENTS
    ) as client:
        stream = await client.chat.completions.create(
            model="opensoul",
            messages=[{"role": "user", "content": "Look."}],
            stream=True,
        )
        choices = [chunk.choices[0] async for chunk in stream]

        looks_into_a_file(provider)
        async with client.chat.completions.stream(
            model="opensoul", messages=[{"role": "user", "content": "Look."}]
        ) as helped:
            final = await helped.get_final_completion()

    text = "".join(choice.delta.content or "" for choice in choices)
    assert text == final.choices[0].message.content == "I look.\n\nDone."
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
