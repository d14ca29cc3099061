"""The state of the messages that clients sent: pending, or taken over into the Session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ......domain.access import Principal
from ......domain.errors import UnknownRun
from ......domain.messages import Role
from ......domain.runs import RunSpec
from ......domain.services import Gateway
from ......domain.sessions import SessionKey
from ...broadcast import sender_key
from ..payloads import content
from .commands import Commands

_SHOWN = 20
"""Pending inputs that are listed."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Derives the state of inputs from the Runs of a Session."""

    gateway: Gateway
    commands: Commands

    async def pending(self, principal: Principal, key: SessionKey) -> dict[str, Any]:
        """The inputs of active Runs, whose messages are not in the history yet."""
        runs = await self.gateway.active(principal, key)
        return {"items": [_pending_item(run) for run in runs[:_SHOWN]], "total": len(runs)}

    async def receipts(
        self,
        principal: Principal,
        key: SessionKey,
        run_ids: Sequence[str],
        messages: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Whether each of these inputs is pending or consumed. Existing clients hold back later
        messages until an input is consumed, however its Run ended. `messages`: the messages of the
        same response."""
        active = {run.id for run in await self.gateway.active(principal, key)}
        stored = {one["runId"]: one["messageId"] for one in messages if one["role"] == Role.USER}
        pending: list[dict[str, Any]] = []
        consumed: list[dict[str, Any]] = []
        for run_id in dict.fromkeys(run_ids):
            if run_id in active and run_id not in stored:
                pending.append({"runId": run_id, "state": "pending"})
            elif run_id in stored or await self._accepted(principal, key, run_id):
                # The input of an aborted or failed run is not stored and has no message id.
                event = stored.get(run_id, sender_key(run_id))
                consumed.append({"runId": run_id, "consumedByEventId": event})
        receipts = [*pending, *({**one, "state": "consumed"} for one in consumed)]
        return {"inputReceipts": receipts, "inputConsumptions": consumed}

    async def _accepted(self, principal: Principal, key: SessionKey, run_id: str) -> bool:
        if self.commands.answered(key, run_id):
            return True
        try:
            return (await self.gateway.run(principal, run_id)).session_key == key
        except UnknownRun:
            return False


def _pending_item(run: RunSpec) -> dict[str, Any]:
    accepted_at = int(run.accepted_at * 1_000)
    return {
        "id": sender_key(run.id),
        "runId": run.id,
        "message": {
            "role": Role.USER.value,
            "content": content(run.messages[-1]),
            "timestamp": accepted_at,
            "idempotencyKey": sender_key(run.id),
        },
        "acceptedAt": accepted_at,
        "state": "queued",
    }
