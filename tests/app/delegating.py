"""A Gateway whose agents start sub-agents and write to one another, with a tool that waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from dependency_injector import providers

from opensoul.api import Effect, Repeat, ToolCall, ToolContext, ToolOutput, ToolResult, ToolSpec
from opensoul.app import plugins
from opensoul.domain.access import ALL_SCOPES, Principal
from opensoul.domain.messages import Role, text_message
from opensoul.domain.runs import (
    Aborted,
    Failed,
    Finished,
    NumberedEvent,
    OnLeave,
    RunQuery,
    RunRecord,
    RunRequest,
    RunSpec,
)
from opensoul.domain.sessions import SessionQuery
from tests.app.serving import Served, config, serving

OPERATOR = Principal("operator", ALL_SCOPES, "token")
STORES = ("memory", "sqlite")
ANY = SessionQuery(limit=1_000)
HOLD = ToolSpec("hold", "Waits.", effects=frozenset({Effect.READ}), repeat=Repeat.SAFE)


class Holding:
    """A Toolbox: a call of `hold` says its name, and waits until it is let go."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.calls: list[str] = []
        self.let_go = asyncio.Event()

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return (HOLD,)

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        name = json.loads(call.arguments)["name"]
        self.calls.append(name)
        self.begun.put_nowait(name)
        await self.let_go.wait()
        yield ToolResult(f"held {name}")

    async def close(self) -> None:
        """There is nothing to release."""


@dataclass
class Office:
    served: Served
    holding: Holding
    number: int = field(default=0)

    async def submit(
        self,
        script: str,
        *,
        key: str = "talk",
        agent: str = "main",
        who: Principal = OPERATOR,
        **more: Any,
    ) -> str:
        """The id of a run that goes on without a client, also in another process; with
        `OnLeave.ABORT` in none, as a plain chat completion."""
        self.number += 1
        request = RunRequest(
            (text_message(Role.USER, script),),
            session_key=f"agent:{agent}:{key}",
            on_leave=more.pop("on_leave", OnLeave.CONTINUE),
            source="agent",
            **more,
        )
        if request.on_leave is OnLeave.ABORT:
            spec: RunSpec = await self.gateway.submit(who, request)
            return spec.id
        submission = await self.gateway.submit_once(who, request, f"run-{self.number}")
        return str(submission.record.id)

    @property
    def gateway(self) -> Any:
        return self.served.container.gateway()

    async def events(self, run_id: str, who: Principal = OPERATOR) -> list[NumberedEvent]:
        return [one async for batch in self.gateway.watch(who, run_id) for one in batch]

    async def end(self, run_id: str) -> Finished | Failed | Aborted:
        end = (await self.events(run_id))[-1].event
        assert isinstance(end, Finished | Failed | Aborted)
        return end

    async def answer(self, run_id: str) -> str:
        """The text of the answer, without the marks of the scripted model."""
        end = await self.end(run_id)
        assert isinstance(end, Finished), end
        turn = await self.served.container.catalog().turn(run_id)
        assert turn is not None
        text: str = turn.messages[-1].text
        return text.replace("[scripted] ", "")

    async def result(self, run_id: str) -> dict[str, Any]:
        """The result of the last call of a run whose script ends with it."""
        _, _, text = (await self.answer(run_id)).partition(" returned: ")
        result: dict[str, Any] = json.loads(text)
        return result

    async def runs(self) -> dict[str, RunRecord]:
        """All runs by their sessions' keys; the newest of each."""
        page = await self.gateway.runs(OPERATOR, RunQuery(limit=100))
        return {run.session_key.rest: run for run in reversed(page.runs)}

    async def children(self, parent: str = "agent:main:talk") -> list[RunRecord]:
        """The first runs of the sub-agents of a session, oldest first."""
        listed = await self.served.container.session_service().list(OPERATOR, ANY)
        keys = [one.key for one in listed.sessions if one.settings.get("spawnedBy") == parent]
        page = await self.gateway.runs(OPERATOR, RunQuery(limit=100))
        return [run for run in reversed(page.runs) if run.session_key in keys]

    async def context(self, run_id: str) -> ToolContext:
        """For calls of tools beside those of a run that goes on."""
        container = self.served.container
        (spec,) = [one for one in await container.queue().unfinished() if one.id == run_id]
        return context_of(container.settings()().agents.find(spec.agent_id, param="x"), spec)

    async def held(self, *, key: str = "talk", who: Principal = OPERATOR, **more: Any) -> str:
        """A run that waits in the tool `hold`."""
        run_id = await self.submit(call("hold", name=key), key=key, who=who, **more)
        assert await self.holding.begun.get() == key
        return run_id

    async def call(
        self, context: ToolContext, tool: str, *, key: str = "k1", **arguments: Any
    ) -> tuple[dict[str, Any], bool]:
        """The result of a call as an object, and whether it is an error. An error in words is
        the value of `error`."""
        text = json.dumps(arguments)
        tools = self.served.container.all_tools()
        async with aclosing(tools.run(context, ToolCall("c1", tool, text), key=key)) as outputs:
            last = [output async for output in outputs][-1]
        assert isinstance(last, ToolResult)
        try:
            return json.loads(last.text), last.is_error
        except ValueError:
            return {"error": last.text}, last.is_error


def context_of(agent: Any, spec: RunSpec) -> ToolContext:
    return ToolContext(
        agent, spec.id, spec.session_key, spec.principal_id, spec.scopes, spec.principal
    )


def call(tool: str, **arguments: Any) -> str:
    """A line of a script."""
    return f"/call {tool} {json.dumps(arguments)}"


def spawn(task: str, **arguments: Any) -> str:
    return call("sessions_spawn", task=task, **arguments)


def content(store: str, **agents: Any) -> dict[str, Any]:
    """`agents` adds to the defaults; `tools` of it are the rules."""
    tools = {"alsoAllow": ["*"], **agents.pop("tools", {})}
    listed = agents.pop("list", [{"id": "main"}, {"id": "helper"}])
    whole = config(
        agents={"defaults": {"model": "scripted/m", **agents}, "list": listed},
        models={"providers": {"scripted": {"api": "scripted", "models": [{"id": "m"}]}}},
        tools=tools,
    )
    if store == "memory":
        whole["session"] = {"store": ":memory:"}
    return whole


@asynccontextmanager
async def office(
    home: Path, configuration: Mapping[str, Any], holding: Holding | None = None
) -> AsyncIterator[Office]:
    held = holding or Holding()

    class Installed(EntryPoint):
        def load(self) -> Any:
            return lambda: held

    point = Installed("holding", "holding:Holding", plugins.TOOLS)
    find = providers.Object(lambda group: [point] if group == plugins.TOOLS else [])
    async with serving(home, configuration, find_plugins=find) as served:
        yield Office(served, held)
        held.let_go.set()
