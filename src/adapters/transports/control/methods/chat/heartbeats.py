"""Heartbeats: runs of the default agent that a client triggers and whose result is broadcast."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from ......domain.access import Principal
from ......domain.concurrency import shielded
from ......domain.errors import GatewayBusy, GatewayError, Unavailable
from ......domain.messages import Role, text_message
from ......domain.runs import OnLeave, RunRequest, RunStatus
from ......domain.sessions import MAIN
from ...broadcast import Hub
from ...dependencies import Dependencies
from ..service import ControlService

_MOST = 20
"""Texts queued for the next heartbeat."""
_PREVIEW = 200

T = TypeVar("T")


class Heartbeats(ControlService):
    """`last`: the payload of the last `heartbeat` event."""

    def __init__(self, dependencies: Dependencies, hub: Hub) -> None:
        super().__init__(dependencies, hub)
        self._queued: deque[str] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.enabled = True
        self.last: Mapping[str, Any] | None = None

    def note(self, text: str) -> None:
        """Queue a text for the next heartbeat. Raises GatewayBusy if the queue is full."""
        if len(self._queued) >= _MOST:
            raise GatewayBusy(
                f"{_MOST} texts wait for the next heartbeat, which is the limit. Call wake with "
                "mode now to process them."
            )
        self._queued.append(text)

    async def wake(self, principal: Principal, text: str) -> str:
        """Start a run of the default agent in its main session with `text`; returns the run's id.

        Queued texts are included; they stay queued if the run is rejected. Raises Unavailable
        while heartbeats are switched off, and what Gateway.submit_once raises.
        """
        if not self.enabled:
            raise Unavailable("Heartbeats are switched off. Call set-heartbeats to enable them.")
        # A separate task, so that cancelling the request does not lose the queued texts.
        return await shielded(self._task(self._begin(principal, text)))

    async def _begin(self, principal: Principal, text: str) -> str:
        queued = tuple(self._queued)
        self._queued.clear()
        texts = (*queued, text)
        request = RunRequest(
            messages=(text_message(Role.USER, "\n".join(f"System: {t}" for t in texts)),),
            session_key=MAIN,
            on_leave=OnLeave.CONTINUE,
            source="wake",
            reserved_keys=True,
        )
        try:
            submission = await self.gateway.submit_once(
                principal, request, self.dependencies.new_id()
            )
        except BaseException:
            self._queued.extendleft(reversed(queued))
            raise
        self._task(self._report(principal, submission.record.id))
        return submission.record.id

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _report(self, principal: Principal, run_id: str) -> None:
        payload: dict[str, Any] = {"runId": run_id, "reason": "wake"}
        try:
            outcome = await self.outcomes.of(principal, run_id)
        except GatewayError as error:
            payload |= {"status": "failed", "preview": error.message[:_PREVIEW]}
        else:
            record = outcome.record
            sent = record.status is RunStatus.FINISHED
            duration = (record.ended_at or record.accepted_at) - record.accepted_at
            payload |= {
                "status": "sent" if sent else "failed",
                "preview": outcome.text[:_PREVIEW],
                "durationMs": int(duration * 1_000),
            }
        self.last = {"ts": int(self.clock() * 1_000), **payload}
        self.hub.broadcast("heartbeat", self.last)
