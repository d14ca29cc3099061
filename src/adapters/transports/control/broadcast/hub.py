"""Everybody who is connected, and what they are told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from .....domain.access import ALL_SCOPES, Principal
from .....domain.errors import GatewayError
from .....domain.ports import Clock
from .....domain.runs import RunRecord
from .....domain.services import Gateway
from .....domain.sessions import SessionKey
from ...http.json_text import dumps
from ..connection import RESTART, Connection
from ..protocol import EVENTS
from .broadcaster import RunBroadcaster, Source
from .presence import Presence
from .subscriptions import Audiences

logger = logging.getLogger(__name__)

TICK_SECONDS = 30.0
HEALTH_SECONDS = 60.0
_PRESENCE_SECONDS = 0.05
_PRESENCE_SECONDS_EACH = 0.005
MAX_CONNECTIONS = 2_000
_TELLING_SECONDS = 1.0
"""What telling may take at last, once the runs have ended."""

_HUB = Principal("gateway", ALL_SCOPES, "internal")

Health = Callable[[], Awaitable[Mapping[str, Any]]]


class Hub:
    """Holds the connections, and starts a RunBroadcaster for every Run that one of them watches."""

    def __init__(self, *, gateway: Gateway, clock: Clock, presence: Presence) -> None:
        self._gateway = gateway
        self._clock = clock
        self._connections: dict[str, Connection] = {}
        self._audiences = Audiences()
        self._tellers: dict[str, asyncio.Task[RunBroadcaster]] = {}
        self._orders: WeakValueDictionary[SessionKey, asyncio.Lock] = WeakValueDictionary()
        """By Session, as long as one of its Runs is read: see `Source.order`."""
        self.presence = presence
        self.health_version = 1
        self._stopping = False
        self._presence_due: asyncio.TimerHandle | None = None
        gateway.on_run(self._began)

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Everybody who is connected now."""
        return tuple(self._connections.values())

    @asynccontextmanager
    async def joined(self, connection: Connection) -> AsyncIterator[None]:
        """While a client is connected."""
        self._connections[connection.id] = connection
        if self.presence.arrived(connection):
            self.tell_presence()
        try:
            yield
        finally:
            connection.has_left = True
            del self._connections[connection.id]
            self._audiences.forget(connection)
            if self.presence.left(connection):
                self.tell_presence()

    def broadcast(self, name: str, payload: object, *, state: bool = False) -> None:
        """Tell everybody who may know."""
        kind, told = EVENTS[name], dumps(payload)
        versions = self.state_version() if state else b""
        for connection in self.connections:
            if connection.may_see(kind.scope):
                connection.outbox.event(name, told, may_be_lost=kind.lossy, state=versions)

    def tell_session(self, key: SessionKey, name: str, payload: object) -> None:
        """Tell everybody who wants to know what happens in a Session."""
        told = dumps(payload)
        for connection in self._audiences.of(key):
            connection.outbox.event(name, told)

    def tell_presence(self) -> None:
        """Tell soon who is connected, which has changed.

        Changes that follow one another are told together, the more so the more there are to be
        told: everybody who comes would otherwise cost something for everybody who is there.
        """
        if self._presence_due is None:
            wait = _PRESENCE_SECONDS + _PRESENCE_SECONDS_EACH * len(self._connections)
            loop = asyncio.get_running_loop()
            self._presence_due = loop.call_later(wait, self._broadcast_presence)

    def state_version(self) -> bytes:
        """What events carry beside their payload."""
        return dumps({"presence": self.presence.version, "health": self.health_version})

    def room(self, connection: Connection, key: SessionKey) -> AbstractContextManager[None]:
        """Within it the client can `attend` the Session. Raises InvalidRequest where it attends too
        many."""
        return self._audiences.room(connection, key)

    async def attend(self, connection: Connection, key: SessionKey, *, begun: str = "") -> None:
        """Tell a client what happens in a Session from now on. Of the Run `begun`, which was
        accepted this very moment, that is everything.

        Does nothing for a client that may not see the Session, and for one that has left while its
        request was on its way.
        """
        if connection.is_restricted and not await self._gateway.sees(connection.principal, key):
            return
        if connection.has_left:
            return
        self._audiences.add(connection, key)
        for run in await self._gateway.active(_HUB, key):
            self._tell(run.id, from_the_start=run.id == begun)

    async def attend_all(self, connection: Connection, agent_id: str | None = None) -> None:
        """The same for every Session, or for every Session of an agent."""
        self._audiences.add_to_all(connection, agent_id)
        for run in await self._gateway.active(_HUB):
            self._tell(run.id)

    def forget_restricted(self, key: SessionKey) -> None:
        """The Session was deleted: its next owner may be another principal."""
        for connection in self._audiences.of(key):
            if connection.is_restricted:
                self._audiences.remove(connection, key)

    def leave(self, connection: Connection, key: SessionKey | None = None) -> None:
        """No longer tell a client of a Session, or of every one."""
        self._audiences.remove(connection, key)

    async def told(self, run_id: str) -> RunBroadcaster | None:
        """Return once everything of a Run was told; None where nobody is told of it."""
        telling = self._tellers.get(run_id)
        return None if telling is None else await asyncio.shield(telling)

    def heard(self, connection: Connection, run_id: str) -> None:
        """A client was told all of a Run by following it; others may not be that far."""
        telling = self._tellers.get(run_id)
        if telling is not None:
            connection.heard.add(run_id)
            telling.add_done_callback(lambda _: connection.heard.discard(run_id))

    def close_where(self, which: Callable[[Connection], bool], code: int, reason: str) -> None:
        """End the connections that `which` picks."""
        for connection in self.connections:
            if which(connection):
                connection.close(code, reason)

    def begin_shutdown(self, reason: str) -> None:
        """Tell everybody that the end is near; connections stay until the runs have ended."""
        if not self._stopping:
            self._stopping = True
            self.broadcast("shutdown", {"reason": reason})

    async def open(self) -> None:
        """Let clients in, also after a `close`."""
        self._stopping = False

    async def close(self) -> None:
        """End every connection, once all that was to be told is told; a disk that does not answer
        is not waited for."""
        self._stopping = True
        if self._presence_due is not None:
            self._presence_due.cancel()
        if self._tellers:
            await asyncio.wait(self._tellers.values(), timeout=_TELLING_SECONDS)
        self.close_where(lambda _: True, RESTART, "service restart")

    @property
    def stopping(self) -> bool:
        """Nobody is let in any more."""
        return self._stopping

    def tick(self) -> None:
        """Show every client that its connection lives."""
        self.broadcast("tick", {"ts": int(self._clock() * 1_000)})

    async def broadcast_health(self, health: Health) -> None:
        """Send every client the state of the Gateway, where there is a client."""
        if self._connections:
            self.health_version += 1
            self.broadcast("health", await health(), state=True)

    def _broadcast_presence(self) -> None:
        self._presence_due = None
        self.broadcast("presence", {"presence": self.presence.entries()}, state=True)

    def _began(self, record: RunRecord) -> None:
        """Start a broadcaster for a Run that was accepted, if a connection watches its Session."""
        if self._audiences.of(record.session_key):
            self._tell(record.id, from_the_start=True)

    def _tell(self, run_id: str, *, from_the_start: bool = False) -> None:
        """Begin to tell of a Run, unless that is going on."""
        if run_id not in self._tellers:
            telling = self._read(run_id, from_the_start)
            task = asyncio.create_task(telling, name=f"telling of run {run_id}")
            self._tellers[run_id] = task
            task.add_done_callback(partial(self._told_or_not, run_id))

    def _told_or_not(self, run_id: str, telling: asyncio.Task[RunBroadcaster]) -> None:
        """A Run that could not be read is not told; who waits for its answer reads it anew."""
        del self._tellers[run_id]
        if not telling.cancelled() and (error := telling.exception()) is not None:
            extra = {"run": run_id, "reason": str(error)}
            expected = isinstance(error, GatewayError)
            logger.warning("a run is not told", exc_info=None if expected else error, extra=extra)

    async def _read(self, run_id: str, from_the_start: bool) -> RunBroadcaster:
        now = partial(self._gateway.run, _HUB, run_id)
        record = await now()
        silent_until = 0 if from_the_start else record.last_seq
        events = partial(self._gateway.watch, _HUB, run_id)
        answer = partial(self._gateway.answer, _HUB, record.session_key, run_id)
        order = self._orders.setdefault(record.session_key, asyncio.Lock())
        source = Source(record, events, now, answer, order, silent_until)
        teller = RunBroadcaster(
            source, partial(self._audiences.of, record.session_key), self._clock
        )
        await teller.run()
        return teller
