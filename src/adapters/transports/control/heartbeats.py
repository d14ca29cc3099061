"""Runs that no client waits for: somebody wakes the default agent, everybody hears how it went."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from ....domain.auth import Principal
from ....domain.errors import GatewayError, Unavailable
from ....domain.gateway import Gateway
from ....domain.messages import Role, text_message
from ....domain.ports import Clock, NewId
from ....domain.run_records import RunStatus
from ....domain.runs import OnLeave, RunRequest
from ....domain.sessions import MAIN
from .hub import Hub
from .methods.outcomes import Outcomes

_MOST = 20
"""Texts that wait for the next heartbeat."""
_PREVIEW = 200


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
        self._waiting: deque[str] = deque(maxlen=_MOST)
        self._tasks: set[asyncio.Task[None]] = set()
        self.enabled = True
        self.last: Mapping[str, Any] | None = None

    def note(self, text: str) -> None:
        """To be looked at with the next heartbeat."""
        self._waiting.append(text)

    async def wake(self, principal: Principal, text: str) -> str:
        """Have the default agent look at `text` now, in its main session; tells the run's id.

        Raises Unavailable while heartbeats are switched off, and as Gateway.submit_once does.
        """
        if not self.enabled:
            raise Unavailable("Heartbeats are switched off; set-heartbeats switches them on.")
        texts = [*self._waiting, text]
        self._waiting.clear()
        request = RunRequest(
            messages=(text_message(Role.USER, "\n".join(f"System: {t}" for t in texts)),),
            session_key=MAIN,
            on_leave=OnLeave.CONTINUE,
            door="wake",
            reserved_keys=True,
        )
        submission = await self._gateway.submit_once(principal, request, self._new_id())
        task = asyncio.create_task(self._report(principal, submission.record.id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return submission.record.id

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
