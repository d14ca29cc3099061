"""Approvals in this process's memory."""

from __future__ import annotations

from dataclasses import replace

from ....domain.tools import Approval, Decision, StandingApproval, standing_of


class MemoryApprovals:
    """An ApprovalBook of one process and one event loop."""

    def __init__(self) -> None:
        self._approvals: dict[str, Approval] = {}
        self._standing: dict[str, StandingApproval] = {}

    async def add(self, approval: Approval) -> Approval:
        granted = self._standing.get(approval.subject)
        if granted is not None:
            approval = replace(
                approval,
                decision=Decision.ALLOW_ALWAYS,
                decided_by=granted.granted_by,
                decided_at=approval.created_at,
            )
        return self._approvals.setdefault(approval.id, approval)

    async def find(self, approval_id: str) -> Approval | None:
        return self._approvals.get(approval_id)

    async def pending(self, run_id: str | None = None) -> tuple[Approval, ...]:
        return tuple(
            approval
            for approval in self._approvals.values()
            if approval.decision is None and run_id in (None, approval.run_id)
        )

    async def decide(
        self, approval_id: str, decision: Decision, *, by: str, at: float
    ) -> Approval | None:
        approval = self._approvals.get(approval_id)
        if approval is None or approval.decision is not None:
            return approval
        if at >= approval.expires_at:
            decision, by = Decision.EXPIRED, ""
        decided = replace(approval, decision=decision, decided_by=by, decided_at=at)
        self._approvals[approval_id] = decided
        if decision is Decision.ALLOW_ALWAYS:
            self._standing.setdefault(decided.subject, standing_of(decided, by, at))
        return decided

    async def standing(self) -> tuple[StandingApproval, ...]:
        return tuple(self._standing.values())

    async def revoke(self, standing_id: str) -> bool:
        return self._standing.pop(standing_id, None) is not None

    async def prune(self, before: float) -> int:
        old = [
            one.id
            for one in self._approvals.values()
            if one.decided_at is not None and max(one.expires_at, one.decided_at) < before
        ]
        for approval_id in old:
            del self._approvals[approval_id]
        return len(old)
