"""`exec.approval.*`, and `approval.*` of protocol 4: decisions on tool calls that wait."""

from __future__ import annotations

from ...approvals import DECISIONS, decision_of, standing_object
from ..broadcast import approval_row
from ..connection import Call, NoParams, Params
from ..protocol import Name
from .service import ControlService, answers


class ApprovalParams(Params):
    """One approval. `kind` is accepted and ignored: there is one kind."""

    id: Name
    kind: Name | None = None


class ResolveParams(ApprovalParams):
    """`decision`: `allow-once`, `allow-always` or `deny`."""

    decision: Name


class StandingParams(Params):
    """What was allowed for always."""

    id: Name


class ApprovalMethods(ControlService):
    @answers("exec.approval.list", NoParams)
    async def _exec_list(self, call: Call, params: NoParams) -> object:
        return await self._pending(call)

    @answers("approval.list", NoParams)
    async def _list(self, call: Call, params: NoParams) -> object:
        return {"approvals": await self._pending(call)}

    @answers("exec.approval.get", ApprovalParams)
    async def _exec_get(self, call: Call, params: ApprovalParams) -> object:
        return await self._found(call, params.id)

    @answers("approval.get", ApprovalParams)
    async def _get(self, call: Call, params: ApprovalParams) -> object:
        return await self._found(call, params.id)

    @answers("exec.approval.resolve", ResolveParams)
    async def _exec_resolve(self, call: Call, params: ResolveParams) -> object:
        return await self._decide(call, params)

    @answers("approval.resolve", ResolveParams)
    async def _resolve(self, call: Call, params: ResolveParams) -> object:
        return await self._decide(call, params)

    @answers("approval.standing.list", NoParams)
    async def _standing(self, call: Call, params: NoParams) -> object:
        standing = await self.dependencies.approvals.standing(call.principal)
        return {"standing": [standing_object(one) for one in standing]}

    @answers("approval.standing.revoke", StandingParams)
    async def _revoke(self, call: Call, params: StandingParams) -> object:
        await self.dependencies.approvals.revoke(call.principal, params.id)
        return {"ok": True, "id": params.id}

    async def _pending(self, call: Call) -> list[dict[str, object]]:
        pending = await self.dependencies.approvals.pending(call.principal)
        return [approval_row(approval) for approval in pending]

    async def _found(self, call: Call, approval_id: str) -> object:
        row = approval_row(await self.dependencies.approvals.find(call.principal, approval_id))
        return {**row, "allowedDecisions": [] if "decision" in row else list(DECISIONS)}

    async def _decide(self, call: Call, params: ResolveParams) -> object:
        decision = decision_of(params.decision)
        decided = await self.dependencies.approvals.decide(call.principal, params.id, decision)
        return {"ok": True, "id": decided.id, "decision": params.decision}
