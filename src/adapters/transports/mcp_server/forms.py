"""The form in which the person at a client decides on an approval."""

from __future__ import annotations

from typing import Any

import mcp_types as types
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from ....domain.tools import Decision

_DECISIONS = {"approve": Decision.ALLOW, "deny": Decision.DENY}
_DECISION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "decision": {"type": "string", "title": "Decision", "enum": list(_DECISIONS)},
    },
    "required": ["decision"],
}


async def decision_by_form(
    session: ServerSession, text: str, request_id: types.RequestId | None
) -> Decision | None:
    """The person's decision; None where there is none."""
    try:
        found = await session.elicit_form(text, _DECISION, request_id)
    except (MCPError, ValidationError):
        return None
    return _decision_of(found)


def can_show_forms(session: ServerSession) -> bool:
    """Whether the client can show its person a form while the call goes on."""
    capabilities = session.client_capabilities
    elicitation = None if capabilities is None else capabilities.elicitation
    if elicitation is None or not session.can_send_request:
        return False
    return elicitation.form is not None or elicitation.url is None


def _decision_of(found: types.ElicitResult) -> Decision | None:
    """None where the person has made no choice."""
    if found.action == "decline":
        return Decision.DENY
    if found.action == "cancel":
        return None
    return _DECISIONS.get(str((found.content or {}).get("decision")))
