"""Approvals of tool calls: which a principal sees, decisions, and what happens without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hmac import compare_digest

from ...access import Action, Principal, Resource, may, require
from ...errors import ApprovalDecided, UnknownApproval
from ...ports import ApprovalBook, Clock, NodeBus, RunEvents, RunQueue, RunSignals
from ...runs import RunQuery, RunStatus
from ...tools import Approval, Decision, StandingApproval
from .observed import ObservedApprovals, OnApproval

_KEPT = 86_400.0
"""Seconds that an approval can be found after it has expired."""


class Approvals:
    """Decides, once, and lets the Run go on that waits for it. `clock` is Unix time.

    `book` is the book to request approvals with: listeners get those that are added to it.
    """

    def __init__(
        self,
        *,
        book: ApprovalBook,
        queue: RunQueue,
        signals: RunSignals,
        run_events: RunEvents,
        clock: Clock,
        bus: NodeBus | None = None,
    ) -> None:
        self._observed = ObservedApprovals(book, bus)
        self.book: ApprovalBook = self._observed
        self._queue = queue
        self._signals = signals
        self._run_events = run_events
        self._clock = clock
        self._stranded: frozenset[tuple[str, int]] = frozenset()
        """With other nodes: what `_find_stranded` has found last."""

    async def open(self) -> None:
        """Have listeners called for what other nodes request and decide, too. Raises
        StoreFailed."""
        await self._observed.open()

    async def close(self) -> None:
        """Listen to other nodes no more."""
        await self._observed.close()

    async def pending(self, principal: Principal) -> tuple[Approval, ...]:
        """The approvals without a decision that the principal may decide on, oldest first. Raises
        Forbidden, StoreFailed."""
        require(principal, Action.DECIDE_APPROVAL)
        now = self._clock()
        pending = [one for one in await self.book.pending() if one.expires_at > now]
        seen = [one for one in pending if may_decide(principal, one)]
        waiting = await self._which_wait(seen)
        return tuple(one for one in seen if one.run_id in waiting)

    async def find(self, principal: Principal, approval_id: str) -> Approval:
        """Raises Forbidden, UnknownApproval, StoreFailed."""
        require(principal, Action.DECIDE_APPROVAL)
        approval = await self.book.find(approval_id)
        if approval is None or not may_decide(principal, approval):
            raise UnknownApproval(f"There is no approval {approval_id!r}.")
        return approval

    async def find_by_code(self, principal: Principal, code: str) -> Approval:
        """The pending approval with that code. Raises Forbidden, UnknownApproval, StoreFailed."""
        # Each one is compared, and each in the same time, because a code is a secret.
        pending = await self.pending(principal)
        found = [one for one in pending if one.code and compare_digest(one.code, code)]
        if not found:
            raise UnknownApproval(
                "No pending approval has this code: it was used or has expired, or its run ended."
            )
        return found[0]

    async def undecided(self, approval_id: str) -> Approval | None:
        """The approval while it can be decided on, with its code: for the client of its Run."""
        approval = await self.book.find(approval_id)
        if approval is None or approval.decision is not None:
            return None
        return approval if approval.expires_at > self._clock() else None

    async def of_subagents(self, run_id: str) -> Approval | None:
        """The oldest approval, with its code, that a sub-agent of the Run waits for, at whichever
        depth: for the client of the Run. None where there is nothing to decide."""
        now = self._clock()
        pending = [one for one in await self.book.pending() if one.expires_at > now]
        parents = await self._parents()
        for approval in sorted(pending, key=lambda one: one.created_at):
            if run_id in _above(approval.run_id, parents):
                return approval
        return None

    async def asked_by(self, approval: Approval) -> str:
        """The Run that the approval's one works for in the end; the same one if for no other."""
        return [approval.run_id, *_above(approval.run_id, await self._parents())][-1]

    async def _parents(self) -> Mapping[str, str]:
        """Of each Run that has not ended and works for another one: that one, if it has not ended
        either."""
        unfinished = {spec.id: spec.parent for spec in await self._queue.unfinished()}
        return {run: parent for run, parent in unfinished.items() if parent in unfinished}

    async def decide(self, principal: Principal, approval_id: str, decision: Decision) -> Approval:
        """Decide, and let the Run go on. Raises Forbidden, UnknownApproval, StoreFailed, and
        ApprovalDecided where it was decided before, has expired, or its Run has ended."""
        approval = await self.find(principal, approval_id)
        if approval.decision is not None:
            raise _decided(approval)
        if not await self._which_wait([approval]):
            raise ApprovalDecided(f"The run of approval {approval_id!r} has ended.")
        at = self._clock()
        decided = await self.book.decide(approval_id, decision, by=principal.id, at=at)
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

    async def standing(self, principal: Principal) -> tuple[StandingApproval, ...]:
        """What was allowed for always, oldest first: all, or of a restricted principal what it has
        allowed itself. Raises Forbidden, StoreFailed."""
        require(principal, Action.DECIDE_APPROVAL)
        standing = await self.book.standing()
        return tuple(one for one in standing if _may_revoke(principal, one))

    async def revoke(self, principal: Principal, standing_id: str) -> None:
        """Ask for such calls again. Raises Forbidden, UnknownApproval, StoreFailed."""
        known = {one.id for one in await self.standing(principal)}
        if standing_id not in known or not await self.book.revoke(standing_id):
            raise UnknownApproval(f"There is no standing approval {standing_id!r}.")

    def on_requested(self, listener: OnApproval) -> Callable[[], None]:
        """Have `listener` called for each approval that a Run begins to wait for; what is returned
        ends that."""
        return _added(self._observed.requested, listener)

    def on_resolved(self, listener: OnApproval) -> Callable[[], None]:
        """The same for each approval that is decided, or expires."""
        return _added(self._observed.resolved, listener)

    async def expire(self) -> None:
        """Deny what nobody has decided in time, and let those Runs go on; close what a Run that has
        ended asked for. Raises StoreFailed."""
        now = self._clock()
        pending = await self._observed.look()
        waiting = await self._which_wait(pending)
        for approval in pending:
            if approval.expires_at <= now or approval.run_id not in waiting:
                decided = await self.book.decide(approval.id, Decision.EXPIRED, by="", at=now)
                if decided is not None and decided.decided_at == now:  # Not by another node.
                    await self._signals.resolve(
                        approval.run_id, approval.id, Decision.EXPIRED.value
                    )
        if self._observed.shared:
            await self.recover()
        await self.book.prune(now - _KEPT)

    async def recover(self) -> None:
        """Let the Runs go on whose last decision was kept, but not passed on, by an earlier process
        or by a node that has died. Raises StoreFailed.

        Other nodes may be about to pass a decision on: with them, only Runs that the call before
        has found as well go on.
        """
        before, self._stranded = self._stranded, await self._find_stranded()
        due = self._stranded & before if self._observed.shared else self._stranded
        for run_id, _ in sorted(due):
            await self._signals.resolve(run_id, "", "")

    async def _find_stranded(self) -> frozenset[tuple[str, int]]:
        """The Runs that wait, with their attempts, of which every approval is decided."""
        waiting, query = set[tuple[str, int]](), RunQuery(status=RunStatus.WAITING)
        while True:
            page = await self._run_events.list(query)
            waiting.update((record.id, record.attempt) for record in page.runs)
            if page.next_cursor is None:
                break
            query = replace(query, cursor=page.next_cursor)
        if not waiting:
            return frozenset()
        # Read afterwards: a Run requests an approval before it waits.
        undecided = {approval.run_id for approval in await self.book.pending()}
        return frozenset(one for one in waiting if one[0] not in undecided)

    async def _which_wait(self, approvals: Sequence[Approval]) -> frozenset[str]:
        """The Runs of these that have not ended."""
        if not approvals:
            return frozenset()
        return await self._run_events.which_go_on({approval.run_id for approval in approvals})


def _above(run_id: str, parents: Mapping[str, str]) -> list[str]:
    """The Runs that a Run works for, the nearest first."""
    above: list[str] = []
    while run_id in parents and parents[run_id] not in above:
        run_id = parents[run_id]
        above.append(run_id)
    return above


def _added(listeners: list[OnApproval], listener: OnApproval) -> Callable[[], None]:
    listeners.append(listener)
    return lambda: listeners.remove(listener)


def may_decide(principal: Principal, approval: Approval) -> bool:
    """Whether the principal may see the approval and decide on it."""
    resource = Resource(approval.agent_id, approval.principal_id)
    return may(principal, Action.DECIDE_APPROVAL, resource)


def _may_revoke(principal: Principal, standing: StandingApproval) -> bool:
    resource = Resource(standing.agent_id, standing.granted_by)
    return may(principal, Action.DECIDE_APPROVAL, resource)


def _decided(approval: Approval) -> ApprovalDecided:
    return ApprovalDecided(
        f"Approval {approval.id!r} was decided before: {approval.decision or 'it has expired'}."
    )
