"""A book of approvals that reports what is requested and decided, at whichever node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ...ports import ApprovalBook, NodeBus
from ...tools import Approval, Decision, StandingApproval
from ..shared_copy import SharedCopy

OnApproval = Callable[[Approval], None]
"""Is called with an approval that is requested, or decided. Must not wait."""


class ObservedApprovals:
    """An ApprovalBook over another one, which calls listeners.

    Where other nodes share the book, `open` it: then listeners get what those request and decide,
    too, each once.
    """

    def __init__(self, book: ApprovalBook, bus: NodeBus | None = None) -> None:
        self.requested: list[OnApproval] = []
        self.resolved: list[OnApproval] = []
        self._book = book
        self._copy = SharedCopy(bus, "approvals", self.look)
        self._known: set[str] = set()
        """With other nodes: the approvals without a decision that listeners know of."""
        self._decided: set[str] = set()
        """What this node has decided since a look began."""
        self._looking = asyncio.Lock()

    @property
    def shared(self) -> bool:
        """Whether other nodes share the book."""
        return self._copy.shared

    async def open(self) -> None:
        """Listen to other nodes. Raises StoreFailed."""
        if self.shared:
            self._copy.open()
            self._known = {approval.id for approval in await self._book.pending()}

    async def close(self) -> None:
        """Listen no more."""
        await self._copy.close()

    async def look(self) -> tuple[Approval, ...]:
        """The approvals without a decision; report what other nodes have requested and decided.
        Raises StoreFailed."""
        if not self.shared:
            return await self._book.pending()
        async with self._looking:
            self._decided.clear()
            pending = await self._book.pending()
            for approval in pending:
                if approval.id not in self._decided:
                    self._report_requested(approval)
            for gone in self._known - {approval.id for approval in pending}:
                present = await self._book.find(gone)
                if present is None:
                    self._known.discard(gone)
                elif present.decision is not None:
                    self._report_resolved(present)
            return pending

    async def add(self, approval: Approval) -> Approval:
        kept = await self._book.add(approval)
        if kept == approval:  # Another attempt of the Run gets the approval of the first.
            self._report_requested(kept)
            self._copy.changed()
        return kept

    async def find(self, approval_id: str) -> Approval | None:
        return await self._book.find(approval_id)

    async def pending(self, run_id: str | None = None) -> tuple[Approval, ...]:
        return await self._book.pending(run_id)

    async def decide(
        self, approval_id: str, decision: Decision, *, by: str, at: float
    ) -> Approval | None:
        decided = await self._book.decide(approval_id, decision, by=by, at=at)
        if decided is not None and decided.decided_at == at:
            self._report_resolved(decided)
            self._copy.changed()
        return decided

    async def standing(self) -> tuple[StandingApproval, ...]:
        return await self._book.standing()

    async def revoke(self, standing_id: str) -> bool:
        return await self._book.revoke(standing_id)

    async def prune(self, before: float) -> int:
        return await self._book.prune(before)

    def _report_requested(self, approval: Approval) -> None:
        if self.shared:
            if approval.id in self._known:
                return
            self._known.add(approval.id)
        _call(self.requested, approval)

    def _report_resolved(self, approval: Approval) -> None:
        if self.shared:
            self._decided.add(approval.id)
            if approval.id not in self._known:
                return
            self._known.discard(approval.id)
        _call(self.resolved, approval)


def _call(listeners: Sequence[OnApproval], approval: Approval) -> None:
    for listener in tuple(listeners):
        listener(approval)
