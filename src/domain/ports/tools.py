"""Where tools come from, and where the approvals of their calls are kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..access import Principal
from ..agents import Agent
from ..immutable import immutable
from ..messages import ToolCall
from ..scopes import Scope
from ..sessions import SessionKey
from ..tools import (
    Approval,
    Decision,
    Ruling,
    StandingApproval,
    ToolOutput,
    ToolResult,
    ToolSpec,
    effective,
)


@dataclass(frozen=True, slots=True)
class KeyedCall:
    """A direct call under an idempotency key. `outcome`: how it has ended; empty: it has not, or
    was `lost`, which is when its process has died."""

    fingerprint: str
    outcome: str = ""
    result: str = ""
    lost: bool = False


class CallBook(Protocol):
    """Direct calls by principal and idempotency key, over all processes that serve the same
    clients. Results are kept for some minutes. Methods raise StoreFailed."""

    async def begin(
        self, principal_id: str, key: str, fingerprint: str, seconds: float
    ) -> KeyedCall | None:
        """None: the caller runs the call, within so many seconds. Else the earlier call."""
        ...

    async def find(self, principal_id: str, key: str) -> KeyedCall | None:
        """The call as it stands; None for a key that was forgotten."""
        ...

    async def end(self, principal_id: str, key: str, outcome: str, result: str) -> None:
        """Keep how the call has ended."""
        ...

    async def forget(self, principal_id: str, key: str) -> None:
        """The call was not begun."""
        ...


@immutable(frozen=True, slots=True)
class ToolContext:
    """For whom tools are listed and run: an Agent, in a Run of a Session, on behalf of the
    principal that started it."""

    agent: Agent
    run_id: str
    session_key: SessionKey
    principal_id: str
    scopes: frozenset[Scope] | None = None
    """Those of the principal, for the policy; None: not restricted."""
    principal: Principal | None = None
    """For tools that act in the Gateway; None: they may do nothing there."""

    def rulings(
        self, tools: Iterable[ToolSpec], call: ToolCall | None = None
    ) -> tuple[Ruling, ...]:
        """What the policy says of each tool; with `call`: of that call of it."""
        return effective(
            tools,
            self.agent.tools,
            models=[target.ref for target in self.agent.models],
            depth=self.session_key.depth,
            max_depth=self.agent.subagents.max_depth,
            scopes=self.scopes,
            call=call,
        )


class Toolbox(Protocol):
    """Tools from one source. A Run sees one Toolbox, which may be made of several."""

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        """The tools that the Agent may call, each name once."""
        ...

    def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        """Run one call; the last item is the ToolResult. `key` is the same in every attempt of the
        call: a `keyed` tool carries it out once.

        What goes wrong in a tool is a ToolResult with `is_error`, and so is a tool that is not
        there. Closing the stream stops the work and every process that it started.
        """
        ...

    async def close(self) -> None:
        """Release all resources. Safe to call twice."""
        ...


class ApprovalBook(Protocol):
    """Approvals, pending and decided. Raises StoreFailed."""

    async def add(self, approval: Approval) -> Approval:
        """Keep a pending approval; where its id is known already, return the one that is kept.
        Where its subject was allowed for always, it is kept, and returned, as decided by that."""
        ...

    async def find(self, approval_id: str) -> Approval | None:
        """None for an id that is not known (any more)."""
        ...

    async def pending(self, run_id: str | None = None) -> tuple[Approval, ...]:
        """Approvals without a decision, of a Run or all, oldest first."""
        ...

    async def decide(
        self, approval_id: str, decision: Decision, *, by: str, at: float
    ) -> Approval | None:
        """Decide, once: the first decision stands, and the approval is returned as it stands then.
        From `expires_at` on the decision is EXPIRED, whatever was asked for. None for an unknown
        id. ALLOW_ALWAYS is remembered for the approval's subject, also after `prune`."""
        ...

    async def standing(self) -> tuple[StandingApproval, ...]:
        """What was allowed for always, oldest first."""
        ...

    async def revoke(self, standing_id: str) -> bool:
        """Ask again for such calls; False for an unknown id."""
        ...

    async def prune(self, before: float) -> int:
        """Remove the approvals that were decided and expired before that Unix time; returns how
        many. A decision of just now stays, however late it is: its Run has to read it."""
        ...
