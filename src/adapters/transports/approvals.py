"""`/v1/approvals`: the tool calls that wait for a person, and the decisions on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import orjson
from quart import Response, request

from ...domain.access import Scope
from ...domain.errors import InvalidRequest
from ...domain.services import Approvals
from ...domain.tools import Approval, Decision, StandingApproval
from .http.bodies import read_object
from .http.context import current
from .http.json_text import dumps
from .routes import SCHEMA_REF, Limits, Route, Transport, json_content

DECISIONS: Mapping[str, Decision] = MappingProxyType(
    {
        "allow-once": Decision.ALLOW,
        "allow-always": Decision.ALLOW_ALWAYS,
        "deny": Decision.DENY,
    }
)
"""The decisions that clients may make, by their names in every protocol."""
_WORDS = {decision: word for word, decision in DECISIONS.items()} | {Decision.EXPIRED: "expired"}

_LIMITS = Limits(body_bytes=4_096)


def decision_of(word: object) -> Decision:
    """Raises InvalidRequest."""
    if isinstance(word, str) and word in DECISIONS:
        return DECISIONS[word]
    allowed = ", ".join(DECISIONS)
    raise InvalidRequest(f"`decision` must be one of {allowed}.", param="decision")


def approval_object(approval: Approval) -> dict[str, object]:
    """The approval as clients get it, without its code. Times are in milliseconds, `arguments` is
    the text that the model wrote where that is no JSON. A decision is in it once there is one."""
    shown: dict[str, object] = {
        "id": approval.id,
        "tool": approval.call.name,
        "arguments": _arguments(approval.call.arguments),
        "runId": approval.run_id,
        "agentId": approval.agent_id,
        "sessionKey": approval.session_key,
        "createdAt": _millis(approval.created_at),
        "expiresAt": _millis(approval.expires_at),
    }
    if approval.decision is not None:
        shown["decision"] = _WORDS[approval.decision]
        shown["decidedBy"] = approval.decided_by
        shown["decidedAt"] = _millis(approval.decided_at or 0.0)
    return shown


def standing_object(standing: StandingApproval) -> dict[str, object]:
    """What was allowed for always, as clients get it."""
    return {
        "id": standing.id,
        "agentId": standing.agent_id,
        "tool": standing.tool,
        "arguments": _arguments(standing.arguments),
        "grantedBy": standing.granted_by,
        "grantedAt": _millis(standing.granted_at),
    }


def transport(approvals: Approvals) -> Transport:
    """The routes."""
    endpoint = _Endpoint(approvals)
    route = partial(Route, scope=Scope.APPROVALS, limits=_LIMITS)
    all_, one = "/v1/approvals", "/v1/approvals/<approval_id>"
    listed, found = "The tool calls that wait for a decision.", "One approval."
    decided = "Allow or deny a tool call that waits."
    return Transport(
        "approvals",
        (
            route(all_, "GET", view=endpoint.list, summary=listed, operation=_list),
            route(one, "GET", view=endpoint.get, summary=found, operation=_found),
            route(
                one,
                "POST",
                view=endpoint.decide,
                summary=decided,
                operation=_decide,
                errors=(409,),
            ),
        ),
    )


class _Endpoint:
    def __init__(self, approvals: Approvals) -> None:
        self._approvals = approvals

    async def list(self) -> Response:
        pending = await self._approvals.pending(current().principal)
        return _json({"object": "list", "data": [approval_object(one) for one in pending]})

    async def get(self, approval_id: str) -> Response:
        return _json(approval_object(await self._approvals.find(current().principal, approval_id)))

    async def decide(self, approval_id: str) -> Response:
        context = current()
        decision = await read_object(request.body, context, _decision)
        decided = await self._approvals.decide(context.principal, approval_id, decision)
        return _json(approval_object(decided))


def _decision(body: dict[str, Any]) -> Decision:
    return decision_of(body.get("decision"))


def _json(body: Mapping[str, object]) -> Response:
    return Response(dumps(body), content_type="application/json")


def _arguments(text: str) -> object:
    """What the model wrote, as JSON where clients read the same from it: not NaN, nor a number that
    only Python has as an integer."""
    try:
        value = orjson.loads(text)
        return value if value == json.loads(text) else text
    except (ValueError, RecursionError):
        return text


def _millis(seconds: float) -> int:
    return int(seconds * 1_000)


_STRING, _INTEGER = {"type": "string"}, {"type": "integer"}
_APPROVAL = {
    "type": "object",
    "required": [
        *("id", "tool", "arguments", "runId", "agentId", "sessionKey", "createdAt", "expiresAt")
    ],
    "properties": {
        **dict.fromkeys(("id", "tool"), _STRING),
        "arguments": {},
        **dict.fromkeys(("runId", "agentId", "sessionKey"), _STRING),
        **dict.fromkeys(("createdAt", "expiresAt"), _INTEGER),
        "decision": {"enum": sorted(_WORDS.values())},
        "decidedBy": _STRING,
        "decidedAt": _INTEGER,
    },
}
_REF = {"$ref": SCHEMA_REF.format(model="Approval")}


_EXAMPLE = {
    "id": "apr_01",
    "tool": "exec",
    "arguments": {"command": "ls"},
    "runId": "run_01",
    "agentId": "main",
    "sessionKey": "agent:main:main",
    "createdAt": 1_750_000_000_000,
    "expiresAt": 1_750_000_600_000,
}
_DECIDED = {
    **_EXAMPLE,
    "decision": "allow-once",
    "decidedBy": "shared-secret",
    "decidedAt": 1_750_000_060_000,
}


def _answer(
    description: str, schema: Mapping[str, Any], example: Mapping[str, Any]
) -> Mapping[str, Any]:
    content = json_content({**schema, "$defs": {"Approval": _APPROVAL}}, example=example)
    return {"responses": {"200": {"description": description, "content": content}}}


def _list() -> Mapping[str, Any]:
    data = {"type": "array", "items": _REF}
    properties = {"object": {"const": "list"}, "data": data}
    schema = {"type": "object", "required": ["object", "data"], "properties": properties}
    example = {"object": "list", "data": [_EXAMPLE]}
    return _answer("The pending approvals, the oldest first.", schema, example)


def _found() -> Mapping[str, Any]:
    return _answer("The approval.", _REF, _EXAMPLE)


def _decide() -> Mapping[str, Any]:
    decision = {"enum": list(DECISIONS)}
    body = {"type": "object", "required": ["decision"], "properties": {"decision": decision}}
    content = json_content(body, allow={"decision": "allow-once"}, deny={"decision": "deny"})
    request_body = {"required": True, "content": content}
    return {"requestBody": request_body, **_answer("The approval, decided.", _REF, _DECIDED)}
