"""Runs that no client waits for: somebody wakes the default agent, everybody hears how it went."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from .....domain.access import Principal
from .....domain.concurrency import shielded
from .....domain.errors import GatewayBusy, GatewayError, Unavailable
from .....domain.messages import Role, text_message
from .....domain.ports import Clock, NewId
from .....domain.runs import OnLeave, RunRequest, RunStatus
from .....domain.services import Gateway
from .....domain.sessions import MAIN
from ..broadcast import Hub
from .payloads import Outcomes

_MOST = 20
"""Texts that wait for the next heartbeat."""
_PREVIEW = 200

T = TypeVar("T")


class Heartbeats:
    """`last` is the payload of the last `heartbeat` event."""

    def __init__(
        self, gateway: Gateway, hub: Hub, outcomes: Outcomes, clock: Clock, new_id: NewId
    ) -> None:
        self._gateway = gateway
        self._hub = hub
        self._outcomes = outcomes
        self._clock = clock
        self._new_id = new_id
        self._waiting: deque[str] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.enabled = True
        self.last: Mapping[str, Any] | None = None

    def note(self, text: str) -> None:
        """To be looked at with the next heartbeat. Raises GatewayBusy when too many wait."""
        if len(self._waiting) >= _MOST:
            raise GatewayBusy(
                f"{_MOST} texts wait for the next heartbeat already; wake with mode now to have "
                "the agent look at them."
            )
        self._waiting.append(text)

    async def wake(self, principal: Principal, text: str) -> str:
        """Have the default agent look at `text` now, in its main session; tells the run's id.

        Texts that wait are looked at too, and wait on where the run is refused. Raises Unavailable
        while heartbeats are switched off, and as Gateway.submit_once does.
        """
        if not self.enabled:
            raise Unavailable("Heartbeats are switched off; set-heartbeats switches them on.")
        # A task of its own: a client that leaves must not take the waiting texts with it.
        return await shielded(self._task(self._begin(principal, text)))

    async def _begin(self, principal: Principal, text: str) -> str:
        waited = tuple(self._waiting)
        self._waiting.clear()
        texts = (*waited, text)
        request = RunRequest(
            messages=(text_message(Role.USER, "\n".join(f"System: {t}" for t in texts)),),
            session_key=MAIN,
            on_leave=OnLeave.CONTINUE,
            source="wake",
            reserved_keys=True,
        )
        try:
            submission = await self._gateway.submit_once(principal, request, self._new_id())
        except BaseException:
            self._waiting.extendleft(reversed(waited))
            raise
        self._task(self._report(principal, submission.record.id))
        return submission.record.id

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _report(self, principal: Principal, run_id: str) -> None:
        told: dict[str, Any] = {"runId": run_id, "reason": "wake"}
        try:
            outcome = await self._outcomes.of(principal, run_id)
        except GatewayError as error:
            told |= {"status": "failed", "preview": error.message[:_PREVIEW]}
        else:
            record = outcome.record
            sent = record.status is RunStatus.FINISHED
            duration = (record.ended_at or record.accepted_at) - record.accepted_at
            told |= {
                "status": "sent" if sent else "failed",
                "preview": outcome.text[:_PREVIEW],
                "durationMs": int(duration * 1_000),
            }
        self.last = {"ts": int(self._clock() * 1_000), **told}
        self._hub.broadcast("heartbeat", self.last)
