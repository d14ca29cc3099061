"""The registry of connections, and the events that are sent to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
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
from .begun_runs import BegunRuns
from .broadcaster import RunBroadcaster, Source
from .payloads import chat_event, message_ids, message_of
from .presence import Presence
from .subscriptions import Subscriptions

logger = logging.getLogger(__name__)

TICK_SECONDS = 30.0
HEALTH_SECONDS = 60.0
_PRESENCE_SECONDS = 0.05
_PRESENCE_SECONDS_EACH = 0.005
MAX_CONNECTIONS = 2_000
_BROADCAST_SECONDS = 1.0
"""Seconds that `close` waits for broadcasts after the runs have ended."""

_PRINCIPAL = Principal("gateway", ALL_SCOPES, "internal")

Health = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class _Broadcast:
    key: SessionKey
    task: asyncio.Task[RunBroadcaster]


class Hub:
    """Holds the connections, and runs a RunBroadcaster for every Run that has a subscriber.

    `shared`: Runs of these Sessions are also accepted and executed by other processes.
    """

    def __init__(
        self, *, gateway: Gateway, clock: Clock, presence: Presence, shared: bool = False
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._connections: dict[str, Connection] = {}
        self.subscriptions = Subscriptions()
        self._broadcasts: dict[str, _Broadcast] = {}
        """By Run, in the order in which they began."""
        self._begun_runs = BegunRuns(partial(gateway.runs, _PRINCIPAL)) if shared else None
        self._orders: WeakValueDictionary[SessionKey, asyncio.Lock] = WeakValueDictionary()
        """By Session, while one of its Runs is broadcast: see `Source.order`."""
        self.presence = presence
        self.health_version = 1
        self._stopping = False
        self._presence_due: asyncio.TimerHandle | None = None
        self.on_connected: Callable[[], Awaitable[None]] = _prepared
        """Called for a new connection, before it is served."""
        self.on_deserted: Callable[[], None] = _forgotten
        """Called when the last connection has ended."""
        gateway.on_run(self._run_accepted)

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def connections(self) -> tuple[Connection, ...]:
        return tuple(self._connections.values())

    @asynccontextmanager
    async def registered(self, connection: Connection) -> AsyncIterator[None]:
        """Register a connection for the duration of the context."""
        self._connections[connection.id] = connection
        if self.presence.connected(connection):
            self.schedule_presence()
        try:
            await self.on_connected()
            yield
        finally:
            connection.is_gone = True
            del self._connections[connection.id]
            self.subscriptions.forget(connection)
            if not self._connections:
                self.on_deserted()
            if self.presence.disconnected(connection):
                self.schedule_presence()

    def broadcast(self, name: str, payload: object, *, state: bool = False) -> None:
        """Send an event to every connection that may see it. `state`: add the state versions."""
        kind, data = EVENTS[name], dumps(payload)
        versions = self.state_version() if state else b""
        for connection in self.connections:
            if connection.may_see(kind.scope):
                connection.outbox.event(name, data, may_be_lost=kind.lossy, state=versions)

    def broadcast_to(self, name: str, payload: object, sees: Callable[[Principal], bool]) -> None:
        """Send an event to every operator whose principal `sees` it, also to restricted ones."""
        data = dumps(payload)
        for connection in self.connections:
            if connection.role == "operator" and sees(connection.principal):
                connection.outbox.event(name, data)

    async def send_injected(self, key: SessionKey, message_id: str) -> None:
        """Send the subscribers of a Session a message that was injected into it."""
        if not self.subscriptions.of(key):
            return
        kept = await self._gateway.answer(_PRINCIPAL, key, message_id)
        if kept is not None:
            message = {**message_of(kept.message.text, self._clock()), **message_ids(kept)}
            end = {"stopReason": "injected", "message": message}
            self.send_to_session(key, "chat", chat_event(message_id, key, 0, "final", **end))

    def send_to_session(self, key: SessionKey, name: str, payload: bytes) -> None:
        """Send an event with an encoded payload to the subscribers of a Session."""
        for connection in self.subscriptions.of(key):
            connection.outbox.event(name, payload)

    def schedule_presence(self) -> None:
        """Send a presence event soon, after it has changed.

        Changes within an interval are combined, and the interval grows with the number of
        connections: otherwise n clients that connect would cause n² events.
        """
        if self._presence_due is None:
            wait = _PRESENCE_SECONDS + _PRESENCE_SECONDS_EACH * len(self._connections)
            loop = asyncio.get_running_loop()
            self._presence_due = loop.call_later(wait, self._broadcast_presence)

    def state_version(self) -> bytes:
        return dumps({"presence": self.presence.version, "health": self.health_version})

    async def subscribe(self, connection: Connection, key: SessionKey, *, begun: str = "") -> None:
        """Send the client the Session's events from now on, and those of the Run `begun`, which
        was just accepted, from its start.

        Does nothing for a client that may not see the Session, or has disconnected in the meantime.
        """
        if connection.is_restricted and not await self._gateway.sees(connection.principal, key):
            return
        if connection.is_gone:
            return
        self.subscriptions.add(connection, key)
        for run in await self._gateway.active(_PRINCIPAL, key):
            self._start_broadcast(run.id, key, from_the_start=run.id == begun)

    async def subscribe_all(self, connection: Connection, agent_id: str | None = None) -> None:
        """Like `subscribe`, for every Session, or every Session of an agent."""
        self.subscriptions.add_to_all(connection, agent_id)
        for run in await self._gateway.active(_PRINCIPAL):
            self._start_broadcast(run.id, run.session_key)

    def unsubscribe_restricted(self, key: SessionKey) -> None:
        """End the subscriptions of restricted clients to a deleted Session, whose next owner may be
        another principal."""
        for connection in self.subscriptions.of(key):
            if connection.is_restricted:
                self.subscriptions.remove(connection, key)

    async def broadcast_done(self, run_id: str) -> RunBroadcaster | None:
        """Wait until a Run was broadcast to its end; None if it is not broadcast."""
        broadcast = self._broadcasts.get(run_id)
        return None if broadcast is None else await asyncio.shield(broadcast.task)

    def skip_rest(self, connection: Connection, run_id: str) -> None:
        """A client has received the whole Run by following it, possibly ahead of the broadcast:
        exclude it from the rest of the broadcast."""
        broadcast = self._broadcasts.get(run_id)
        if broadcast is not None:
            connection.followed.add(run_id)
            broadcast.task.add_done_callback(lambda _: connection.followed.discard(run_id))

    def close_where(self, which: Callable[[Connection], bool], code: int, reason: str) -> None:
        """Close the connections for which `which` is true."""
        for connection in self.connections:
            if which(connection):
                connection.close(code, reason)

    def begin_shutdown(self, reason: str) -> None:
        """Send `shutdown` once. The connections stay open until the runs have ended."""
        if not self._stopping:
            self._stopping = True
            self.broadcast("shutdown", {"reason": reason})

    async def open(self) -> None:
        """Let clients in, also after a `close`."""
        self._stopping = False

    async def close(self) -> None:
        """Close every connection after the broadcasts in progress, which may take at most
        `_BROADCAST_SECONDS` (a disk may not respond)."""
        self._stopping = True
        if self._presence_due is not None:
            self._presence_due.cancel()
        if self._broadcasts:
            tasks = [broadcast.task for broadcast in self._broadcasts.values()]
            await asyncio.wait(tasks, timeout=_BROADCAST_SECONDS)
        self.close_where(lambda _: True, RESTART, "service restart")

    @property
    def stopping(self) -> bool:
        """Whether new connections are rejected."""
        return self._stopping

    def tick(self) -> None:
        self.broadcast("tick", {"ts": int(self._clock() * 1_000)})

    async def broadcast_health(self, health: Health) -> None:
        """Send the health to every client; it is only computed if there is one."""
        if self._connections:
            self.health_version += 1
            self.broadcast("health", await health(), state=True)

    def _broadcast_presence(self) -> None:
        self._presence_due = None
        self.broadcast("presence", {"presence": self.presence.entries()}, state=True)

    async def _check_restricted(self) -> None:
        for connection in self.connections:
            if connection.is_restricted:
                for key in tuple(connection.sessions):
                    if not await self._gateway.sees(connection.principal, key):
                        self.subscriptions.remove(connection, key)

    def _run_accepted(self, record: RunRecord) -> None:
        self.run_begun(record.id, record.session_key)

    def run_begun(self, run_id: str, key: SessionKey) -> None:
        """A Run was accepted, by any transport of any process: broadcast it if its Session has
        subscribers. Only the first call for a Run has an effect."""
        if self._begun_runs is not None and not self._begun_runs.note(run_id):
            return
        if self.subscriptions.of(key):
            self._start_broadcast(run_id, key, from_the_start=True)

    def _start_broadcast(
        self, run_id: str, key: SessionKey, *, from_the_start: bool = False
    ) -> None:
        """Start the broadcast of a Run unless there is one."""
        if run_id not in self._broadcasts:
            if self._begun_runs is not None and self._begun_runs.note(run_id):
                # Earlier subscribers would have got it from its announcement, which is on its way.
                from_the_start = from_the_start or len(self.subscriptions.of(key)) > 1
            work = self._broadcast_run(run_id, from_the_start)
            task = asyncio.create_task(work, name=f"broadcast of run {run_id}")
            self._broadcasts[run_id] = _Broadcast(key, task)
            task.add_done_callback(partial(self._broadcast_ended, run_id))

    def session_changed(self, key: SessionKey, change: str, message_id: str = "") -> None:
        """Send `sessions.changed`, and `session.message` to subscribers after an injection.
        Neither event has content."""
        ts = int(self._clock() * 1_000)
        payload = {"key": str(key), "sessionKey": str(key), "agentId": key.agent_id, "ts": ts}
        self.broadcast("sessions.changed", {**payload, "change": change, "reason": change})
        if change == "deleted":
            self.unsubscribe_restricted(key)
        if message_id:
            self.send_to_session(key, "session.message", dumps(payload))

    async def look(self) -> None:
        """Make up for lost messages of other processes: broadcast Runs, and end subscriptions of
        restricted clients to Sessions that were deleted. Raises StoreFailed."""
        if self._begun_runs is not None:
            await self._check_restricted()
            if not self.subscriptions:
                self.forget_runs()
                return
            for record in await self._begun_runs.missed():
                self._run_accepted(record)

    def forget_runs(self) -> None:
        """No client is to be sent the Runs that others accept until the next one subscribes."""
        if self._begun_runs is not None:
            self._begun_runs.forget_list()

    def _broadcast_ended(self, run_id: str, task: asyncio.Task[RunBroadcaster]) -> None:
        """Log the failure of a broadcast. Callers that wait for the answer read the Run
        themselves."""
        del self._broadcasts[run_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            extra = {"run": run_id, "reason": str(error)}
            exc_info = None if isinstance(error, GatewayError) else error
            logger.warning("the broadcast of a run failed", exc_info=exc_info, extra=extra)

    async def _broadcast_run(self, run_id: str, from_the_start: bool) -> RunBroadcaster:
        now = partial(self._gateway.run, _PRINCIPAL, run_id)
        record = await now()
        silent_until = 0 if from_the_start else record.last_seq
        events = partial(self._gateway.watch, _PRINCIPAL, run_id)
        answer = partial(self._gateway.answer, _PRINCIPAL, record.session_key, run_id)
        order = self._orders.setdefault(record.session_key, asyncio.Lock())
        turn = None if self._begun_runs is None else partial(self._earlier_runs_sent, run_id)
        source = Source(record, events, now, answer, order, silent_until, turn)
        broadcaster = RunBroadcaster(
            source, partial(self.subscriptions.of, record.session_key), self._clock
        )
        await broadcaster.run()
        return broadcaster

    async def _earlier_runs_sent(self, run_id: str) -> None:
        """Return when the Runs of the Session that ended before this one began are broadcast.

        Where another process executes them, the first events of this Run can arrive while the last
        ones of an earlier Run are still being read.
        """
        key = self._broadcasts[run_id].key
        for other_id, other in tuple(self._broadcasts.items()):
            if other_id == run_id:
                return
            with suppress(GatewayError):
                if (
                    other.key == key
                    and (await self._gateway.run(_PRINCIPAL, other_id)).status.final
                ):
                    await asyncio.wait([other.task])


async def _prepared() -> None:
    """A connection can be served at once."""


def _forgotten() -> None:
    """Nothing is to be done without connections."""
