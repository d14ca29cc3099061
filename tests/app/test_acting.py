"""An agent that acts: the same run through each transport of a real Gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dependency_injector import providers

from opensoul.api import Effect, Repeat, ToolCall, ToolContext, ToolOutput, ToolResult, ToolSpec
from opensoul.app import plugins
from opensoul.client import (
    Client,
    Finished,
    Options,
    RunEvent,
    StepDone,
    ToolFinished,
    ToolStarted,
)
from tests.app.serving import SECRET, Served, config, serving
from tests.e2e.process import OPENSOUL

NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
READS = frozenset({Effect.READ})
SCRIPT = """I look.
/call meet {"name": "Ada"}
/call meet {"name": "Eve"}
I write.
/call note {"name": "both"}
/call note {"name": 5}
/call vanish {}
Done."""
ANSWER = "[scripted] I look.\n\n[scripted] I write.\n\n[scripted] Done."
REFUSED = "The arguments do not fit the parameters of note: name: 5 is not of type 'string'"


class Workshop:
    """A Toolbox: each call of `meet` ends once another one is running."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self._met = asyncio.Barrier(2)

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return (
            ToolSpec("meet", "Meets somebody.", NAME, effects=READS, repeat=Repeat.SAFE),
            ToolSpec("note", "Writes a note.", NAME),
        )

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        name = json.loads(call.arguments)["name"]
        if call.name == "note":
            self.noted.append(name)
            yield ToolResult(f"noted {name}")
            return
        yield ToolOutput(f"{name} waits")
        await self._met.wait()
        yield ToolResult(f"met {name}")

    async def close(self) -> None:
        """There is nothing to release."""


class Acting:
    """A Gateway whose agents act, and its control client."""

    def __init__(self, served: Served, workshop: Workshop, client: Client) -> None:
        self.served = served
        self.workshop = workshop
        self.client = client

    async def by_json(self, agent: str, script: str) -> tuple[str, str, str]:
        """The text of the answer, how it ended, and the id of the run."""
        async with self.served.ask(**question(agent, script)) as response:
            body = await response.json()
        (choice,) = body["choices"]
        return choice["message"]["content"], choice["finish_reason"], run_id(body)

    async def by_sse(self, agent: str, script: str) -> tuple[str, str, str]:
        async with self.served.ask(**question(agent, script), stream=True) as response:
            lines = (await response.text()).splitlines()
        chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        return text, choices[-1]["finish_reason"], run_id(chunks[0])

    async def by_websocket(self, agent: str, script: str) -> tuple[str, str, str]:
        run = await self.client.run_agent(script, agent_id=agent)
        *_, last = [event async for event in run.events()]
        assert isinstance(last, Finished)
        return run.text, last.stop, run.run_id

    async def by_command(self, agent: str, script: str) -> tuple[str, str, str]:
        """The same of `opensoul agent`, which is a program of its own."""
        options = ["--agent", agent, "--url", self.url, "--token", SECRET, "--json"]
        home = self.served.config_path.parent
        command = await asyncio.create_subprocess_exec(
            str(OPENSOUL),
            *("agent", "-m", script, *options),
            env={"HOME": str(home)},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await command.communicate()
        answer = json.loads(output)
        (payload,) = answer["result"]["payloads"]
        return payload["text"], answer["result"]["meta"]["stopReason"], answer["runId"]

    @property
    def url(self) -> str:
        return self.served.url.replace("http", "ws", 1)

    async def events(self, run: str) -> list[RunEvent]:
        """The events of a run, without their numbers."""
        return [replace(event, seq=0) async for event in self.client.follow(run).events()]


def question(agent: str, script: str) -> dict[str, Any]:
    return {"model": f"opensoul:{agent}", "messages": [{"role": "user", "content": script}]}


def run_id(body: dict[str, Any]) -> str:
    return str(body["id"]).removeprefix("chatcmpl_")


@pytest_asyncio.fixture
async def acting(tmp_path: Path) -> AsyncIterator[Acting]:
    workshop = Workshop()

    class Installed(EntryPoint):
        def load(self) -> Any:
            return lambda: workshop

    point = Installed("workshop", "workshop:Workshop", plugins.TOOLS)
    find = providers.Object(lambda group: [point] if group == plugins.TOOLS else [])
    content = config(
        agents={
            "defaults": {"model": "scripted/m"},
            "list": [{"id": "main"}, {"id": "brief", "limits": {"maxSteps": 1}}],
        },
        models={"providers": {"scripted": {"api": "scripted", "models": [{"id": "m"}]}}},
        tools={"allow": ["meet", "note"]},
    )
    async with serving(tmp_path, content, find_plugins=find) as served:
        url = served.url.replace("http", "ws", 1)
        async with Client(Options(url=url, token=SECRET, client_id="cli", mode="cli")) as client:
            yield Acting(served, workshop, client)


TRANSPORTS = ["by_json", "by_sse", "by_websocket", "by_command"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_run_of_several_steps_is_the_same_through_each_transport(
    acting: Acting, transport: str
) -> None:
    text, end, run = await getattr(acting, transport)("main", SCRIPT)

    assert (text, end) == (ANSWER, "stop")
    assert acting.workshop.noted == ["both"]
    events = await acting.events(run)
    started = [event for event in events if isinstance(event, ToolStarted)]
    assert [(event.call_id, event.name, event.arguments) for event in started] == [
        ("call_1", "meet", {"name": "Ada"}),
        ("call_2", "meet", {"name": "Eve"}),
        ("call_3", "note", {"name": "both"}),
        ("call_4", "note", {"name": 5}),
        ("call_5", "vanish", {}),
    ]
    results = {event.call_id: event for event in events if isinstance(event, ToolFinished)}
    assert {call: (event.is_error, event.text) for call, event in results.items()} == {
        "call_1": (False, "met Ada"),
        "call_2": (False, "met Eve"),
        "call_3": (False, "noted both"),
        "call_4": (True, REFUSED),
        "call_5": (True, "There is no tool 'vanish'. The tools are: meet, note."),
    }
    assert [event.number for event in events if isinstance(event, StepDone)] == [1, 2]
    both_started = events.index(started[1])
    assert both_started < min(events.index(results[call]) for call in ("call_1", "call_2"))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_run_at_its_limit_ends_with_words_and_its_stop_reason(
    acting: Acting, transport: str
) -> None:
    script = '/call note {"name": "one"}\n/then\n/call note {"name": "two"}'

    text, end, run = await getattr(acting, transport)("brief", script)

    assert text.startswith("[scripted] You said: [This run has reached its limit of 1 steps")
    assert end == ("length" if transport in ("by_json", "by_sse") else "max_steps")
    assert acting.workshop.noted == ["one"]
    last = (await acting.events(run))[-1]
    assert isinstance(last, Finished)
    assert last.stop == "max_steps"
