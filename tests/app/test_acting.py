"""An agent that acts: the same run through each transport of a real Gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
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
    Aborted,
    Client,
    Finished,
    Options,
    RunEvent,
    Started,
    StepDone,
    TextDelta,
    ToolFinished,
    ToolProgress,
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

UNKNOWN = "There is no tool 'vanish'. The tools are: exec, fail, hang, meet, note."


class Workshop:
    """A Toolbox: each call of `meet` ends once another one is running, and `hang` never ends."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self.runs: list[str] = []
        """The ids of the runs that have listed the tools."""
        self.hanging = asyncio.Event()
        self.hung = 0
        """How many calls of `hang` were stopped."""
        self._met = asyncio.Barrier(2)

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        self.runs.append(context.run_id)
        return (
            ToolSpec("meet", "Meets somebody.", NAME, effects=READS, repeat=Repeat.SAFE),
            ToolSpec("note", "Writes a note.", NAME),
            ToolSpec("fail", "Fails."),
            ToolSpec("hang", "Never ends."),
        )

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        if call.name == "fail":
            yield ToolResult("out of paper", is_error=True)
            return
        if call.name == "hang":
            yield ToolOutput("hanging")
            self.hanging.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.hung += 1
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
        run = await self.client.run_agent(script, session_key=f"agent:{agent}:socket")
        *_, last = [event async for event in run.events()]
        assert isinstance(last, Finished)
        return run.text, last.stop, run.run_id

    async def by_command(self, agent: str, script: str) -> tuple[str, str, str]:
        """The same of `opensoul agent`, which is a program of its own."""
        options = [
            "--session-key",
            f"agent:{agent}:command",
            "--url",
            self.url,
            "--token",
            SECRET,
            "--json",
        ]
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
        tools={"allow": ["meet", "note", "fail", "hang", "exec"]},
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
        ("call_4", "note", {"name": 5}),
        ("call_5", "vanish", {}),
        ("call_3", "note", {"name": "both"}),
    ]
    results = {event.call_id: event for event in events if isinstance(event, ToolFinished)}
    assert {call: (event.is_error, event.text) for call, event in results.items()} == {
        "call_1": (False, "met Ada"),
        "call_2": (False, "met Eve"),
        "call_3": (False, "noted both"),
        "call_4": (True, REFUSED),
        "call_5": (True, UNKNOWN),
    }
    assert [event.number for event in events if isinstance(event, StepDone)] == [1, 2]
    both_started = events.index(started[1])
    assert both_started < min(events.index(results[call]) for call in ("call_1", "call_2"))


class Story:
    """What is the same each time in the events of a run: those of each call, and the others.
    Pieces of a text are joined, and calls that run at the same time may end in any order. What
    followers get of a command while it runs depends on the time that it takes."""

    def __init__(self, events: Sequence[RunEvent]) -> None:
        self.calls: dict[str, list[object]] = {}
        self.others: list[object] = []
        self._commands = {
            event.call_id
            for event in events
            if isinstance(event, ToolStarted) and event.name == "exec"
        }
        for event in events:
            match event:
                case Started():
                    pass  # It has times.
                case ToolStarted():
                    self.calls[event.call_id] = [(event.name, event.arguments)]
                case ToolProgress() if event.call_id in self._commands:
                    pass
                case ToolProgress():
                    _add(self.calls[event.call_id], event.text)
                case ToolFinished():
                    self.calls[event.call_id].append((event.is_error, event.text))
                case TextDelta():
                    _add(self.others, event.text)
                case _:
                    self.others.append(event)


def _add(pieces: list[object], text: str) -> None:
    if isinstance(last := pieces[-1] if pieces else None, str):
        pieces[-1] = last + text
    else:
        pieces.append(text)


def exec_call(command: str) -> str:
    return "/call exec " + json.dumps({"command": command})


FORKS = "sleep 86399.25 & (sleep 86399.25 & setsid sleep 86399.25 &) & echo forked"
LOUD = "head -c 100000000 /dev/zero | tr '\\0' x"
SHOWN = "x" * 8_192 + "\u2026"
STORIES: Mapping[str, tuple[str, list[list[object]]]] = {
    "several steps": (
        SCRIPT,
        [
            [("meet", {"name": "Ada"}), "Ada waits", (False, "met Ada")],
            [("meet", {"name": "Eve"}), "Eve waits", (False, "met Eve")],
            [("note", {"name": "both"}), (False, "noted both")],
            [("note", {"name": 5}), (True, REFUSED)],
            [("vanish", {}), (True, UNKNOWN)],
        ],
    ),
    "a tool that fails": ("/call fail {}\nSorry.", [[("fail", {}), (True, "out of paper")]]),
    "a command that fails": (
        exec_call("exit 3"),
        [[("exec", {"command": "exit 3"}), (True, "[exit code 3]")]],
    ),
    "a tool that prints 100 MB": (
        exec_call(LOUD),
        [[("exec", {"command": LOUD}), (False, SHOWN)]],
    ),
    "a tool that starts others": (
        exec_call(FORKS),
        [[("exec", {"command": FORKS}), (False, "forked\n")]],
    ),
    "a tool that hangs": ("/call hang {}", [[("hang", {}), "hanging"]]),
}


def sleeping() -> list[str]:
    """The processes that FORKS has left."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if b"86399.25" in path.read_bytes():
                found.append(path.parent.name)
    return found


@pytest.mark.parametrize("what", STORIES)
async def test_a_run_has_the_same_events_through_each_transport(acting: Acting, what: str) -> None:
    script, calls = STORIES[what]
    stories = []
    for transport in TRANSPORTS:
        acting.workshop.hanging.clear()
        asking = asyncio.create_task(getattr(acting, transport)("main", script))
        if what == "a tool that hangs":
            await acting.workshop.hanging.wait()
            assert await acting.client.abort_run(acting.workshop.runs[-1])
        await asyncio.wait({asking})
        stories.append(Story(await acting.events(acting.workshop.runs[-1])))
        assert (asking.exception() is None) == isinstance(stories[-1].others[-1], Finished)

    first, *others = stories
    ids = sorted(first.calls)
    assert [first.calls[call] for call in ids] == calls
    assert len(set(acting.workshop.runs)) == len(TRANSPORTS)
    for other in others:
        assert (other.calls, other.others) == (first.calls, first.others)
    assert sleeping() == []
    if what == "a tool that hangs":
        assert isinstance(first.others[-1], Aborted)
        assert acting.workshop.hung == len(TRANSPORTS)


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
