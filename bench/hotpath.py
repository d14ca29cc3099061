"""The hot path in this process: one run of 50 chunks from its credential to its frames.

The model is scripted and the settings are artificial; everything else is wired as in a real
Gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from dependency_injector import providers

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
    Usage,
)
from opensoul.domain.runs.spec import RunRequest
from opensoul.domain.services.gateway import Gateway
from opensoul.domain.settings import AuthMode, AuthSettings, Settings, StoreSettings

_CHUNKS = 50
_SECRET = "guard-only"  # noqa: S105 - guards nothing


class _Model:
    """A ModelClient that yields 50 words and suspends between them, as with a socket."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        for _ in range(_CHUNKS):
            yield (TextDelta("tok "),)
            await asyncio.sleep(0)
        yield (ModelFinished(StopReason.STOP, Usage(input=7, output=_CHUNKS)),)

    async def close(self) -> None:
        """Does nothing."""


def _settings(store: StoreSettings) -> Settings:
    target = ModelTarget(Provider("guard", "guard"), "words")
    return Settings(
        agents=AgentDirectory([Agent("main", "Main", models=(target,))], "main"),
        auth=AuthSettings(AuthMode.TOKEN, Secret(_SECRET)),
        store=store,
    )


@asynccontextmanager
async def gateway(store: StoreSettings) -> AsyncIterator[Gateway]:
    """A Gateway wired like the real one, except for its settings and model."""
    settings = _settings(store)
    container = Container(
        settings=providers.Object(lambda: settings),
        models=providers.Object({"guard": _Model()}),
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
            size += len(frames.of(batch.events))
    return size
