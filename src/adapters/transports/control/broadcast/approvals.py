"""Sends the requests for approval, and the decisions, to the clients that may decide."""

from __future__ import annotations

from functools import partial

from .....domain.ports import Clock
from .....domain.services import Approvals, may_decide
from .....domain.tools import Approval
from ...approvals import approval_object
from .hub import Hub


def broadcast_approvals(approvals: Approvals, hub: Hub, clock: Clock) -> None:
    """Broadcast approvals from now on."""

    def send(name: str, approval: Approval) -> None:
        payload = approval_row(approval)
        if approval.decision is not None:
            payload |= {"resolvedBy": approval.decided_by, "ts": int(clock() * 1_000)}
        hub.broadcast_to(name, payload, lambda principal: may_decide(principal, approval))

    approvals.on_requested(partial(send, "exec.approval.requested"))
    approvals.on_resolved(partial(send, "exec.approval.resolved"))


def approval_row(approval: Approval) -> dict[str, object]:
    """The approval as the methods and events of this protocol have it: `request` is what clients of
    the family show."""
    call = approval.call
    shown = approval_object(approval)
    arguments = shown["arguments"]
    command = arguments.get("command") if isinstance(arguments, dict) else None
    return {
        **shown,
        "createdAtMs": shown["createdAt"],
        "expiresAtMs": shown["expiresAt"],
        "request": {
            "command": command if isinstance(command, str) else f"{call.name} {call.arguments}",
            "host": "gateway",
            "toolName": call.name,
            "toolCallId": call.id,
            "agentId": approval.agent_id,
            "sessionKey": approval.session_key,
        },
    }
