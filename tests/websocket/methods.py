"""A bench for the methods of the control protocol: real domain, stores in memory, no socket."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from opensoul.adapters.persistence.memory import (
    MemoryHeartbeats,
    MemoryLimits,
    OneNode,
    SingleNode,
)
from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.adapters.persistence.queue import Lanes, LocalQueue
from opensoul.adapters.transports.control.broadcast.hub import Hub
from opensoul.adapters.transports.control.broadcast.presence import Presence
from opensoul.adapters.transports.control.connection.connection import (
    ANSWERED,
    Call,
    Connection,
    Handlers,
)
from opensoul.adapters.transports.control.dependencies import Dependencies
from opensoul.adapters.transports.control.handshake import Facts
from opensoul.adapters.transports.control.methods.chat.methods import ChatMethods
from opensoul.adapters.transports.control.methods.history import History
from opensoul.adapters.transports.control.methods.models import ModelMethods
from opensoul.adapters.transports.control.methods.sessions.changes import (
    SessionChanges,
    SessionTalk,
)
from opensoul.adapters.transports.control.methods.sessions.lists import SessionLists, SessionSearch
from opensoul.adapters.transports.control.methods.sessions.lookups import SessionLookups
from opensoul.adapters.transports.control.methods.sessions.subscriptions import SessionSubscriptions
from opensoul.adapters.transports.control.methods.usage import SessionUsage
from opensoul.adapters.transports.control.protocol.frames import ClientInfo
from opensoul.domain.access import ALL_SCOPES, Principal, Scope
from opensoul.domain.execution import Compactor, ModelRouter
from opensoul.domain.execution.executor import Executor
from opensoul.domain.execution.generations import Generations
from opensoul.domain.messages import Message
from opensoul.domain.models import Cooldowns
from opensoul.domain.models.calls import Usage
from opensoul.domain.models.directory import ModelDirectory
from opensoul.domain.ports import Turn
from opensoul.domain.services.access import Access
from opensoul.domain.services.gateway import Gateway
from opensoul.domain.services.sessions import SessionService
from opensoul.domain.settings import Settings, StoreSettings
from tests.fakes.domain import (
    FakeClock,
    FakeIds,
    FakeRunEvents,
    FakeRunner,
    agent,
    answered,
    assistant,
    settings,
    target,
    user,
)

OPERATOR = Principal("operator", ALL_SCOPES, "token")
READER = Principal("reader", frozenset({Scope.READ}), "token")


async def no_sandboxes() -> tuple[()]:
    return ()


def some_settings() -> Settings:
    """Two agents, three models, two of which a session may choose."""
    one, two = target("acme/one"), target("acme/two", context_window=9_000, reasoning=True)
    directory = ModelDirectory(
        (two, one, target("zeta/x")), aliases={"quick": "acme/two"}, selectable=[one.ref, two.ref]
    )
    agents = (agent("main", one, workspace="/w/main"), agent("beta", two, workspace="/w/beta"))
    return settings(agents, models=directory, store=StoreSettings(path="/state/sessions.db"))


class Family(Protocol):
    """A class that answers methods."""

    def __init__(self, dependencies: Dependencies, hub: Hub) -> None: ...

    def handlers(self) -> Handlers: ...


@dataclass
class Bench:
    """The settings may be replaced at any time; `operator` is a client that may do everything."""

    settings: Settings = field(default_factory=some_settings)
    clock: FakeClock = field(default_factory=lambda: FakeClock(1_000_000.0))
    new_id: FakeIds = field(default_factory=FakeIds)
    store: MemoryStore = field(default_factory=MemoryStore)
    log: FakeRunEvents = field(default_factory=FakeRunEvents)
    runner: FakeRunner = field(default_factory=lambda: FakeRunner(answered()))

    def __post_init__(self) -> None:
        def current() -> Settings:
            return self.settings

        times: dict[str, Any] = {"clock": self.clock, "new_id": self.new_id}
        self.generations = Generations(current)
        lanes = Lanes(lambda: self.settings.lanes)
        self.queue = LocalQueue(rows=self.log, lanes=lanes, clock=self.clock)
        self.executor = Executor(
            owner="one",
            runners={"native": self.runner},
            store=self.store,
            run_events=self.log,
            catalog=self.store,
            queue=self.queue,
            signals=self.queue,
            settings=current,
            generations=self.generations,
            **times,
        )
        self.gateway = Gateway(
            catalog=self.store,
            settings=current,
            generations=self.generations,
            access=Access(settings=current, limits=MemoryLimits(self.clock)),
            queue=self.queue,
            signals=self.queue,
            executor=self.executor,
            run_events=self.log,
            **times,
        )
        self.session_service = SessionService(
            settings=current,
            store=self.store,
            catalog=self.store,
            queue=self.queue,
            compactor=Compactor(
                ModelRouter(clients={}, cooldowns=Cooldowns(self.clock)), clock=self.clock
            ),
            **times,
        )
        presence = Presence(self.clock, "1")
        self.hub = Hub(gateway=self.gateway, clock=self.clock, presence=presence)
        self.dependencies = dependencies(self)
        services = self.dependencies, self.hub
        models = ModelMethods(*services)
        chat = ChatMethods(*services)
        self.session_service.on_change(self.hub.session_changed)
        self.handlers: Handlers = {
            **chat.handlers(),
            **models.handlers(),
            **History(*services, models.metadata).handlers(),
            **SessionTalk(*services, chat).handlers(),
            **self.handlers_of(
                SessionChanges,
                SessionLists,
                SessionLookups,
                SessionSearch,
                SessionSubscriptions,
                SessionUsage,
            ),
        }
        self.operator = connection("operator", OPERATOR)

    def handlers_of(self, *families: type[Family], **parts: Any) -> Handlers:
        """The handlers of these families, with other parts than the bench has by itself."""
        used = replace(self.dependencies, **parts)
        return {
            name: handler
            for family in families
            for name, handler in family(used, self.hub).handlers().items()
        }

    async def ask(self, method: str, client: Connection | None = None, **params: Any) -> Any:
        """The answer, as it would travel: the last one, or the first where that was all."""
        answers: list[object] = []
        handler = self.handlers[method]
        call = Call(method, client or self.operator, answers.append)
        answer = await handler.run(call, handler.params.model_validate(params))
        return json.loads(json.dumps(answers[0] if answer is ANSWERED else answer))

    async def turn(
        self, key: str, *messages: Message, at: float | None = None, model: str = "acme/one"
    ) -> None:
        """Something was said in a session; without messages a question and an answer."""
        parsed = self.gateway.session_key(key)
        found = await self.store.find(parsed)
        await self.store.append(
            Turn(
                key=parsed,
                session_id=f"s-{parsed.rest}" if found is None else found.session_id,
                run_id=f"run-{self.new_id()}",
                at=self.clock() if at is None else at,
                messages=messages or (user("hello"), assistant("hi")),
                model=model,
                usage=Usage(20, 10),
            )
        )

    async def keys(self, **params: Any) -> list[str]:
        """The keys that `sessions.list` lists."""
        listed = await self.ask("sessions.list", **params)
        return [row["key"] for row in listed["sessions"]]


def dependencies(bench: Bench) -> Dependencies:
    """The dependencies of methods that use sessions and runs; the others are missing."""
    missing: Any = None
    return Dependencies(
        gateway=bench.gateway,
        bus=SingleNode("node"),
        presence=None,
        session_changes=None,
        heartbeats=MemoryHeartbeats(),
        session_service=bench.session_service,
        approvals=missing,
        devices=missing,
        keys=missing,
        tools=missing,
        config=missing,
        applied=missing,
        workspaces=missing,
        check=missing,
        read_log=missing,
        log_file=missing,
        stop=missing,
        tool_servers=tuple,
        sandboxes=no_sandboxes,
        python_agents=tuple,
        facts=Facts("1", "host", "/state/opensoul.json", "/state", 0.0),
        nodes=OneNode(bench.clock),
        store="memory",
        clock=bench.clock,
        new_id=bench.new_id,
    )


def connection(name: str, principal: Principal = OPERATOR) -> Connection:
    """A client that is connected."""
    client = ClientInfo.model_validate(
        {"id": "test", "version": "1", "platform": "linux", "mode": "test"}
    )
    return Connection(name, principal, "operator", 4, client, frozenset(), "127.0.0.1", 0.0)


async def events(client: Connection) -> list[dict[str, Any]]:
    """What the connection was sent."""
    return [json.loads(await client.outbox.take()) for _ in range(len(client.outbox))]


def conversation(count: int) -> Iterable[Message]:
    """`m0`, `m1`, ...: questions and answers in turn."""
    return tuple((user if i % 2 == 0 else assistant)(f"m{i}") for i in range(count))
