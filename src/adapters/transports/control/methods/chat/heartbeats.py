"""Heartbeats: runs of the default agent that a client triggers and whose result is broadcast."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from ......domain.access import Principal
from ......domain.concurrency import shielded
from ......domain.errors import GatewayBusy, GatewayError, StoreFailed, Unavailable
from ......domain.messages import Role, text_message
from ......domain.runs import OnLeave, RunRequest, RunStatus
from ......domain.sessions import MAIN
from ...broadcast import HEARTBEATS, Hub
from ...dependencies import Dependencies
from ..service import ControlService

logger = logging.getLogger(__name__)

_MOST = 20
"""Texts queued for the next heartbeat."""
_PREVIEW = 200

T = TypeVar("T")


class Heartbeats(ControlService):
    def __init__(self, dependencies: Dependencies, hub: Hub) -> None:
        super().__init__(dependencies, hub)
        self._book = dependencies.heartbeats
        self._tasks: set[asyncio.Task[Any]] = set()

    async def last(self) -> object:
        """The payload of the last `heartbeat` event, of any process; None: there was none."""
        payload = await self._book.last()
        return None if payload is None else json.loads(payload)

    async def turn(self, on: bool) -> None:
        """Allow or forbid `wake`."""
        await self._book.turn(on)

    async def note(self, text: str) -> None:
        """Queue a text for the next heartbeat. Raises GatewayBusy if the queue is full."""
        if not await self._book.note(text, _MOST):
            raise GatewayBusy(
                f"{_MOST} texts wait for the next heartbeat, which is the limit. Call wake with "
                "mode now to process them."
            )

    async def wake(self, principal: Principal, text: str) -> str:
        """Start a run of the default agent in its main session with `text`; returns the run's id.

        Queued texts are included; they stay queued if the run is rejected. Raises Unavailable
        while heartbeats are switched off, and what Gateway.submit_once raises.
        """
        if not await self._book.is_on():
            raise Unavailable("Heartbeats are switched off. Call set-heartbeats to enable them.")
        # A separate task, so that cancelling the request does not lose the queued texts.
        return await shielded(self._task(self._begin(principal, text)))

    async def _begin(self, principal: Principal, text: str) -> str:
        queued = await self._book.take()
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
            await self._book.put_back(queued)
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
        last = {"ts": int(self.clock() * 1_000), **payload}
        text = json.dumps(last)
        try:
            await self._book.set_last(text)
        except StoreFailed as error:
            logger.warning("a heartbeat was not stored", extra={"reason": error.message})
        self.dependencies.bus.publish(HEARTBEATS, text)
        self.hub.broadcast("heartbeat", last)
