"""Passes begun runs and changes of sessions between the processes of a Gateway."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from .....domain.errors import GatewayError
from .....domain.ports import NodeBus, SessionChanges
from .....domain.runs import RunRecord
from .....domain.services import Gateway, SessionService
from .....domain.sessions import SessionKey
from .hub import Hub
from .session_changes import ChangesOfNodes

logger = logging.getLogger(__name__)

NODES_SECONDS: Final = 10.0
HEARTBEATS: Final = "heartbeats"
"""The topic of the payloads of `heartbeat` events."""
_BEGUN: Final = "runs_begun"


class OtherNodes:
    """Publishes what happens in this process, and has the Hub send its clients what happens in
    others.

    Messages of the bus can be lost: missed runs and changes of sessions are looked for after a gap,
    and with each call of `look`, which is due every NODES_SECONDS.

    Every accepted run is a message. A process without clients does not subscribe to them: otherwise
    the cost of a run would grow with the number of processes.
    """

    def __init__(
        self,
        bus: NodeBus,
        hub: Hub,
        gateway: Gateway,
        session_service: SessionService,
        changes: SessionChanges | None,
    ) -> None:
        self._bus = bus
        self._hub = hub
        self._tasks: set[asyncio.Task[None]] = set()
        self._end_subscription: Callable[[], None] | None = None
        self._changes: ChangesOfNodes | None = None
        if changes is not None:
            self._changes = ChangesOfNodes(bus, changes, self._session_changed_elsewhere)
            session_service.on_change(self._session_changed)
        if bus.shared:
            gateway.on_run(self._run_begun)
            bus.subscribe(HEARTBEATS, self._heartbeat_elsewhere)
            bus.on_gap(lambda: self._start(self._look()))
            hub.on_connected = self._subscribe
            hub.on_deserted = self._unsubscribe

    async def look(self) -> None:
        """Make up for lost messages."""
        if self._bus.shared:
            await self._tried(self._look())

    async def _subscribe(self) -> None:
        if self._end_subscription is None:
            self._end_subscription = self._bus.subscribe(_BEGUN, self._run_begun_elsewhere)
        await self._bus.listening(_BEGUN)

    def _unsubscribe(self) -> None:
        if self._end_subscription is not None:
            self._end_subscription()
            self._end_subscription = None
        self._hub.forget_runs()

    async def _look(self) -> None:
        if self._changes is not None:
            await self._changes.look()
        await self._hub.look()

    def _run_begun(self, record: RunRecord) -> None:
        # With the bell of the first events of a short Run.
        self._publish(_BEGUN, *record.session_key, record.id, is_urgent=False)

    def _run_begun_elsewhere(self, payload: str) -> None:
        key, run_id = _read(payload)
        self._hub.run_begun(run_id, key)

    def _session_changed(self, key: SessionKey, change: str, message_id: str) -> None:
        if self._changes is not None:
            self._start(self._changes.publish(key, change, message_id))

    def _session_changed_elsewhere(self, key: SessionKey, change: str, message_id: str) -> None:
        self._hub.session_changed(key, change, message_id)
        if message_id:
            self._start(self._hub.send_injected(key, message_id))

    def _heartbeat_elsewhere(self, payload: str) -> None:
        self._hub.broadcast("heartbeat", json.loads(payload))

    def _publish(self, topic: str, *fields: str, is_urgent: bool = True) -> None:
        # ASCII, also where a key is no valid text.
        self._bus.publish(topic, json.dumps(fields), is_urgent=is_urgent)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._tried(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tried(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except GatewayError as error:
            extra = {"reason": error.message}
            logger.warning("events of other nodes could not be sent to clients", extra=extra)


def _read(payload: str) -> tuple[Any, ...]:
    agent_id, rest, *fields = json.loads(payload)
    return SessionKey(agent_id, rest), *fields
