"""Approvals of tool calls: which a principal sees, decisions, and what happens without one."""

from __future__ import annotations

from ..access import Action, Principal, Resource, may, require
from ..errors import ApprovalDecided, UnknownApproval
from ..ports import ApprovalBook, Clock, RunEvents, RunQueue, RunSignals
from ..runs import RunStatus
from ..tools import Approval, Decision

_KEPT = 86_400.0
"""Seconds that an approval can be found after it has expired."""


class Approvals:
    """Decides, once, and lets the Run go on that waits for it. `clock` is Unix time."""

    def __init__(
        self,
        *,
        book: ApprovalBook,
        queue: RunQueue,
        signals: RunSignals,
        run_events: RunEvents,
        clock: Clock,
    ) -> None:
        self._book = book
        self._queue = queue
        self._signals = signals
        self._run_events = run_events
        self._clock = clock

    async def pending(self, principal: Principal) -> tuple[Approval, ...]:
        """The approvals without a decision that the principal may decide on, oldest first. Raises
        Forbidden, StoreFailed."""
        require(principal, Action.DECIDE_APPROVAL)
        now = self._clock()
        pending = [one for one in await self._book.pending() if one.expires_at > now]
        seen = [one for one in pending if _may_decide(principal, one)]
        return tuple([one for one in seen if await self._waits(one.run_id)])

    async def find(self, principal: Principal, approval_id: str) -> Approval:
        """Raises Forbidden, UnknownApproval, StoreFailed."""
        require(principal, Action.DECIDE_APPROVAL)
        approval = await self._book.find(approval_id)
        if approval is None or not _may_decide(principal, approval):
            raise UnknownApproval(f"There is no approval {approval_id!r}.")
        return approval

    async def decide(self, principal: Principal, approval_id: str, decision: Decision) -> Approval:
        """Decide, and let the Run go on. Raises Forbidden, UnknownApproval, StoreFailed, and
        ApprovalDecided where it was decided before, has expired, or its Run has ended."""
        approval = await self.find(principal, approval_id)
        if approval.decision is not None:
            raise _decided(approval)
        if not await self._waits(approval.run_id):
            raise ApprovalDecided(f"The run of approval {approval_id!r} has ended.")
        at = self._clock()
        decided = await self._book.decide(approval_id, decision, by=principal.id, at=at)
        if decided is None:
            raise UnknownApproval(f"There is no approval {approval_id!r}.")
        if (decided.decision, decided.decided_by, decided.decided_at) != (
            decision,
            principal.id,
            at,
        ):
            raise _decided(decided)
        await self._signals.resolve(decided.run_id, decided.id, decision.value)
        return decided

    async def expire(self) -> None:
        """Deny what nobody has decided in time, and let those Runs go on. Raises StoreFailed."""
        now = self._clock()
        for approval in await self._book.pending():
            if approval.expires_at <= now:
                await self._book.decide(approval.id, Decision.EXPIRED, by="", at=now)
                await self._signals.resolve(approval.run_id, approval.id, Decision.EXPIRED.value)
        await self._book.prune(now - _KEPT)

    async def recover(self) -> None:
        """Let the Runs go on whose last decision an earlier process kept but did not pass on.
        Raises StoreFailed."""
        undecided = {approval.run_id for approval in await self._book.pending()}
        for spec in await self._queue.unfinished():
            record = await self._run_events.find(spec.id)
            waits = record is not None and record.status is RunStatus.WAITING
            if waits and spec.id not in undecided:
                await self._signals.resolve(spec.id, "", "")

    async def _waits(self, run_id: str) -> bool:
        record = await self._run_events.find(run_id)
        return record is not None and not record.status.final


def _may_decide(principal: Principal, approval: Approval) -> bool:
    resource = Resource(approval.agent_id, approval.principal_id)
    return may(principal, Action.DECIDE_APPROVAL, resource)


def _decided(approval: Approval) -> ApprovalDecided:
    return ApprovalDecided(
        f"Approval {approval.id!r} was decided before: {approval.decision or 'it has expired'}."
    )
