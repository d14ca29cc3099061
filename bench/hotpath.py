"""The hot path in this process: one run of 50 chunks from its credential to its frames; with a
Toolbox, a run with one tool call, and 50 chunks after it.

The model is scripted and the settings are artificial; everything else is wired as in a real
Gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from dependency_injector import providers

from opensoul.adapters.tools import EmptyToolbox
from opensoul.adapters.transports.openai.chat.answers import Frames, head_of
from opensoul.app.container import Container
from opensoul.domain.access import Credential
from opensoul.domain.access.addresses import ClientAddress
from opensoul.domain.agents import Agent, AgentDirectory
from opensoul.domain.messages import Role, text_message
from opensoul.domain.models.calls import (
    ModelEvent,
    ModelFinished,
    ModelRequest,
    ModelTarget,
    Provider,
    Secret,
    StopReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from opensoul.domain.ports import Toolbox
from opensoul.domain.runs.spec import RunRequest
from opensoul.domain.services.gateway import Gateway
from opensoul.domain.settings import AuthMode, AuthSettings, Settings, StoreSettings
from opensoul.domain.tools import Names, ToolPolicy, ToolRules

_CHUNKS = 50
_SECRET = "guard-only"  # noqa: S105 - guards nothing


class _Model:
    """A ModelClient that yields 50 words and suspends between them, as with a socket. Where tools
    are offered, it calls the first one before."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        if request.tools and request.messages[-1].role is not Role.TOOL:
            yield (ToolCallDelta(0, "call_1", request.tools[0].name, '{"name": "ada"}'),)
            await asyncio.sleep(0)
            yield (ModelFinished(StopReason.TOOL_CALLS, Usage(input=7, output=9)),)
            return
        for _ in range(_CHUNKS):
            yield (TextDelta("tok "),)
            await asyncio.sleep(0)
        yield (ModelFinished(StopReason.STOP, Usage(input=7, output=_CHUNKS)),)

    async def close(self) -> None:
        """Does nothing."""


def _settings(store: StoreSettings, *, acts: bool) -> Settings:
    target = ModelTarget(Provider("guard", "guard"), "words")
    rules = ToolPolicy(ToolRules(allow=Names(("*",)))) if acts else ToolPolicy()
    agent = Agent("main", "Main", models=(target,), tools=rules)
    return Settings(
        agents=AgentDirectory([agent], "main"),
        auth=AuthSettings(AuthMode.TOKEN, Secret(_SECRET)),
        store=store,
    )


@asynccontextmanager
async def gateway(store: StoreSettings, tools: Toolbox | None = None) -> AsyncIterator[Gateway]:
    """A Gateway wired like the real one, except for its settings, its model and its tools."""
    settings = _settings(store, acts=tools is not None)
    container = Container(
        settings=providers.Object(lambda: settings),
        models=providers.Object({"guard": _Model()}),
        all_tools=providers.Object(tools or EmptyToolbox()),
    )
    async with AsyncExitStack() as stack:
        sessions, log = container.store(), container.run_events()
        stack.push_async_callback(sessions.close)
        await sessions.open()
        stack.push_async_callback(log.close)
        await log.start()
        made: Gateway = container.gateway()
        stack.push_async_callback(made.drain, 10.0)
        yield made


async def answer(served: Gateway, user: str | None = None) -> int:
    """Process one request; returns the size of its frames in bytes."""
    who = await served.authenticate(Credential(ClientAddress("127.0.0.1"), _SECRET.encode()))
    run = await served.submit(who, RunRequest((text_message(Role.USER, "Hello!"),), user=user))
    frames = Frames(head_of(run, "opensoul"), include_usage=True)
    size = 0
    async with served.follow(who, run) as events:
        async for batch in events:
            size += len(frames.of(batch.events, batch.first))
    return size
