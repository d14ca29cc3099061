"""What became of the messages that a client sent: which wait, and which a Session has taken."""

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
"""Waiting inputs that are shown, each with its message."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Looks at the Runs of a Session."""

    gateway: Gateway
    commands: Commands

    async def pending(self, principal: Principal, key: SessionKey) -> dict[str, Any]:
        """The inputs of Runs that have not ended: their messages are not in the history yet."""
        runs = await self.gateway.active(principal, key)
        return {"items": [_waiting(run) for run in runs[:_SHOWN]], "total": len(runs)}

    async def receipts(
        self,
        principal: Principal,
        key: SessionKey,
        run_ids: Sequence[str],
        messages: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Which of these inputs the Session has, however their Runs ended: a client of the family
        holds every later message back until it knows. `messages`: those of the same answer."""
        active = {run.id for run in await self.gateway.active(principal, key)}
        stored = {one["runId"]: one["messageId"] for one in messages if one["role"] == Role.USER}
        pending: list[dict[str, Any]] = []
        consumed: list[dict[str, Any]] = []
        for run_id in dict.fromkeys(run_ids):
            if run_id in active and run_id not in stored:
                pending.append({"runId": run_id, "state": "pending"})
            elif run_id in stored or await self._accepted(principal, key, run_id):
                # What was aborted or failed is not stored, so it has no message to be named.
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


def _waiting(run: RunSpec) -> dict[str, Any]:
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
