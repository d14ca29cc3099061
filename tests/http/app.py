"""A Gateway with a model that plays a script, served as the real one is, for these tests."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from opensoul.adapters.persistence.common.live_logs import Bounds
from opensoul.adapters.persistence.common.no_catalog import NoCatalog
from opensoul.adapters.persistence.memory import MemoryApprovals, MemoryLimits, MemoryResponses
from opensoul.adapters.persistence.memory.run_events import MemoryRunEvents
from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.adapters.persistence.queue import Lanes, LocalQueue
from opensoul.adapters.system.ids import new_id
from opensoul.adapters.tools import EmptyToolbox
from opensoul.adapters.transports import RouteTable, Transport, anthropic, health, openapi
from opensoul.adapters.transports import runs as runs_http
from opensoul.adapters.transports.http import install
from opensoul.adapters.transports.openai import chat as openai_chat
from opensoul.adapters.transports.openai import completions as openai_completions
from opensoul.adapters.transports.openai import conversations as openai_conversations
from opensoul.adapters.transports.openai import embeddings as openai_embeddings
from opensoul.adapters.transports.openai import models as openai_models
from opensoul.adapters.transports.openai import responses as openai_responses
from opensoul.adapters.web import GuardedClient
from opensoul.app.server import hypercorn as our_hypercorn
from opensoul.domain.access import ALL_SCOPES, Credential, Principal
from opensoul.domain.agents import Agent, AgentDirectory
from opensoul.domain.byte_budget import NO_CHARGE, Charge
from opensoul.domain.execution.executor import Executor
from opensoul.domain.execution.generations import Generations
from opensoul.domain.execution.loop import TurnLoop
from opensoul.domain.execution.router import ModelRouter
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
from opensoul.domain.models.cooldowns import Cooldowns
from opensoul.domain.models.embeddings import EmbeddingRequest, Embeddings
from opensoul.domain.runs.events import RunEvent
from opensoul.domain.runs.records import RunRecord
from opensoul.domain.runs.spec import RunRequest, RunSpec
from opensoul.domain.services import Approvals, EmbeddingService, Responses, TokenCounts
from opensoul.domain.services.access import Access
from opensoul.domain.services.gateway import Gateway
from opensoul.domain.settings import (
    AuthMode,
    AuthSettings,
    ChatEndpointSettings,
    EndpointSettings,
    Settings,
)

TOKEN = "secret"
STARTED_AT = 1_700_000_000.5

Step = ModelEvent | Sequence[ModelEvent] | Exception | asyncio.Event
"""What a script holds: an event to tell, events to tell together, an error to raise, or an event
to wait for."""

HELLO: tuple[Step, ...] = (
    TextDelta("Hel"),
    TextDelta("lo"),
    ModelFinished(StopReason.STOP, Usage(input=7, output=2)),
)


class ScriptedModel:
    """A ModelClient that plays `script` for each call and remembers what it was asked."""

    def __init__(self) -> None:
        self.script: tuple[Step, ...] = HELLO
        self.seen: list[ModelRequest] = []
        self.called = asyncio.Event()
        self.closed = asyncio.Event()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        self.seen.append(request)
        self.called.set()
        try:
            for step in self.script:
                match step:
                    case asyncio.Event():
                        await step.wait()
                    case Exception():
                        raise step
                    case _:
                        yield step if isinstance(step, Sequence) else (step,)
                        # A real model's pieces come from a socket: others get their turn.
                        await asyncio.sleep(0)
        finally:
            self.closed.set()

    async def close(self) -> None:
        """Nothing to let go of."""


class LengthEmbedder:
    """An Embedder whose vector of a text is its length and the dimension. It remembers what it was
    asked, waits for `gate` where there is one, and raises `failure`."""

    def __init__(self) -> None:
        self.seen: list[EmbeddingRequest] = []
        self.gate: asyncio.Event | None = None
        self.called = asyncio.Event()
        self.left = asyncio.Event()
        self.failure: Exception | None = None
        self.usage: Usage | None = Usage(3, 0)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self.seen.append(request)
        self.called.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            vectors = tuple(struct.pack("<ff", len(text), 0.5) for text in request.texts)
            return Embeddings(vectors, self.usage)
        finally:
            self.left.set()

    async def close(self) -> None:
        """Nothing to let go of."""


class WatchedGateway(Gateway):
    """A Gateway whose principals hold only `scopes`, and that remembers what was submitted."""

    scopes = ALL_SCOPES
    submitted: tuple[tuple[Principal, RunSpec], ...] = ()

    async def authenticate(self, credential: Credential) -> Principal:
        return replace(await super().authenticate(credential), scopes=self.scopes)

    async def submit(
        self, principal: Principal, request: RunRequest, *, charge: Charge = NO_CHARGE
    ) -> RunSpec:
        run = await super().submit(principal, request, charge=charge)
        self.submitted += ((principal, run),)
        return run


class RememberedRunEvents(MemoryRunEvents):
    """A RunEvents that can say which Runs there were, in order, and how each ended."""

    def __init__(self) -> None:
        super().__init__(clock=time.time, bounds=Bounds(bytes_per_run=256 * 1024 * 1024))
        self.runs: list[str] = []
        self.opened = asyncio.Event()

    def open(self, record: RunRecord) -> None:
        super().open(record)
        self.runs.append(record.id)
        self.opened.set()

    async def end_of(self, number: int = 0) -> RunEvent:
        """The terminal event of a Run, once it is there."""
        async with asyncio.timeout(10):
            *_, last = [told.events[-1] async for told in self.follow(self.runs[number])]
        return last


def agent(agent_id: str, *, api: str = "test") -> Agent:
    target = ModelTarget(Provider("fake", api), "fake-1")
    return Agent(agent_id, agent_id.title(), models=(target,))


def some_settings() -> Settings:
    agents = [agent("main"), agent("beta"), agent("alpha"), agent("demo", api="scripted")]
    return Settings(
        agents=AgentDirectory(agents, "main"),
        auth=AuthSettings(AuthMode.TOKEN, Secret(TOKEN)),
        chat=ChatEndpointSettings(enabled=True),
        embedding_models=tuple(
            ModelTarget(Provider("fake", "test"), name) for name in ("embed-1", "embed-2")
        ),
        endpoints=EndpointSettings(completions=True, embeddings=True),
    )


@dataclass
class Harness:
    """The served application and everything behind it that a test looks at or turns."""

    settings: Settings = field(default_factory=some_settings)
    model: ScriptedModel = field(default_factory=ScriptedModel)
    embedder: LengthEmbedder = field(default_factory=LengthEmbedder)
    store: MemoryStore = field(default_factory=MemoryStore)
    failing: dict[str, str] = field(default_factory=dict)
    port: int = 0

    def __post_init__(self) -> None:
        self.run_log = RememberedRunEvents()
        self.lanes = Lanes(lambda: self.settings.lanes)
        self.queue = LocalQueue(rows=self.run_log, lanes=self.lanes, clock=time.time)
        self.approvals = Approvals(
            book=MemoryApprovals(),
            queue=self.queue,
            signals=self.queue,
            run_events=self.run_log,
            clock=time.time,
        )
        loop = TurnLoop(
            ModelRouter(
                clients={"test": self.model, "scripted": self.model},
                cooldowns=Cooldowns(time.monotonic),
            ),
            EmptyToolbox(),
            self.approvals.book,
            clock=time.time,
        )
        self.generations = Generations(lambda: self.settings)
        self.executor = Executor(
            owner="one",
            runners={"native": loop},
            store=self.store,
            run_events=self.run_log,
            catalog=NoCatalog(),
            queue=self.queue,
            signals=self.queue,
            settings=lambda: self.settings,
            generations=self.generations,
            clock=time.time,
            new_id=new_id,
        )
        self.gateway = WatchedGateway(
            catalog=NoCatalog(),
            settings=lambda: self.settings,
            generations=self.generations,
            access=Access(settings=lambda: self.settings, limits=MemoryLimits(time.monotonic)),
            queue=self.queue,
            signals=self.queue,
            executor=self.executor,
            run_events=self.run_log,
            clock=time.time,
            new_id=new_id,
        )
        self.responses = Responses(
            book=MemoryResponses(),
            settings=lambda: self.settings,
            catalog=NoCatalog(),
            queue=self.queue,
            clock=time.time,
            new_id=new_id,
        )
        counts = TokenCounts(gateway=self.gateway, native=loop)
        self.transports: tuple[Transport, ...] = (
            openai_chat.transport(self.gateway, self.approvals, GuardedClient()),
            openai_models.transport(self.gateway, started_at=STARTED_AT),
            openai_completions.transport(self.gateway, self.approvals),
            openai_embeddings.transport(
                EmbeddingService(gateway=self.gateway, embedders={"test": self.embedder})
            ),
            anthropic.transport(
                self.gateway,
                self.approvals,
                counts,
                GuardedClient(),
            ),
            openai_responses.transport(
                self.gateway,
                self.approvals,
                self.responses,
                counts,
                GuardedClient(),
                clock=time.time,
            ),
            openai_conversations.transport(self.gateway, self.responses, clock=time.time),
            runs_http.transport(self.gateway),
            health.transport(self.check),
            openapi.transport(lambda: RouteTable(self.transports)),
        )
        self.app = self._application()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def chat(self, **changes: object) -> None:
        """Change settings of the chat endpoint, as a reload of the configuration would."""
        chat = replace(self.settings.chat, **changes)  # type: ignore[arg-type]
        self.settings = replace(self.settings, chat=chat)

    async def check(self) -> Mapping[str, str]:
        return self.failing

    def _application(self) -> Quart:
        app = Quart("opensoul", static_folder=None)
        install(app, self.gateway, self.transports)
        return app


@asynccontextmanager
async def served(harness: Harness) -> AsyncIterator[Harness]:
    """The application behind a real server on a free port of this machine."""
    our_hypercorn.install()
    listening = socket.create_server(("127.0.0.1", 0))
    harness.port = listening.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.loglevel = "WARNING"
    config.include_server_header = False
    stop = asyncio.Event()
    await harness.store.open()
    server = asyncio.create_task(serve(harness.app, config, shutdown_trigger=stop.wait))
    try:
        yield harness
    finally:
        await harness.gateway.drain(0)
        stop.set()
        await server
        await harness.store.close()
