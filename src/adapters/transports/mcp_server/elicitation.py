"""Approvals that the person at the client decides while its call goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ....domain.errors import ApprovalDecided, Forbidden, UnknownApproval
from ....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TERMINAL,
    TOOL_EVENTS,
    EventBatch,
    Resumed,
    RunEvent,
    Started,
    StepDone,
    Waiting,
    consumes,
)
from ....domain.tools import Approval, Decision
from ..answering import ApprovalPause, description_of

Ask = Callable[[str], Awaitable[Decision | None]]
"""Has the client ask its person; None where there is no decision."""


@dataclass(frozen=True, slots=True)
class ElicitingPause(ApprovalPause):
    """Asks the person where the run begins to wait. Without a decision, the answer ends with the
    question, as it does for other clients."""

    ask: Ask

    @consumes(
        Waiting,
        ignores=(Started, *DELTAS, *TOOL_EVENTS, *CONTEXT_EVENTS, StepDone, Resumed, *TERMINAL),
    )
    async def end(self, batch: EventBatch) -> Sequence[RunEvent]:
        waiting = batch.events[-1]
        if not isinstance(waiting, Waiting) or waiting.approval_id is None:
            return ()
        approval = await self.approvals.undecided(waiting.approval_id)
        if approval is None:
            return ()
        principal = self.context.principal
        try:
            await self.approvals.find(principal, approval.id)
        except (Forbidden, UnknownApproval):
            return await ApprovalPause.end(self, batch)
        if await self._decided(approval):
            return ()
        return await ApprovalPause.end(self, batch)

    async def _decided(self, approval: Approval) -> bool:
        """Whether the approval is decided when this returns, by the person or elsewhere."""
        resolved = asyncio.Event()

        def note(decided: Approval) -> None:
            if decided.id == approval.id:
                resolved.set()

        unlisten = self.approvals.on_resolved(note)
        asking = asyncio.ensure_future(self.ask(description_of(approval)))
        elsewhere = asyncio.ensure_future(resolved.wait())
        waits: set[asyncio.Future[Any]] = {asking, elsewhere}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if resolved.is_set():
                return True
            decision = asking.result()
            if decision is None:
                return False
            with suppress(ApprovalDecided, UnknownApproval):  # In the meantime, by somebody else.
                await self.approvals.decide(self.context.principal, approval.id, decision)
            return True
        finally:
            unlisten()
            asking.cancel()
            elsewhere.cancel()
