"""Authorization: the table of actions with their scopes, and the function that applies it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from ..errors import Forbidden
from ..immutable import immutable
from ..scopes import Scope
from .authentication import EVERY_AGENT, Principal


class Action(StrEnum):
    """The operations that need a permission."""

    SEE_AGENT = "see the agent"
    SEE_MODELS = "see the models"
    START_RUN = "start a run"
    SEE_RUN = "see the run"
    STOP_RUN = "stop the run"
    SEE_SESSION = "see the session"
    SET_SESSION = "change harmless settings of the session"
    CHANGE_SESSION = "change the session"
    SEE_USAGE = "see the usage"
    DECIDE_APPROVAL = "decide on the approval"
    CALL_TOOL = "call a tool"
    EMBED = "embed texts"


NEEDS: Mapping[Action, Scope] = MappingProxyType(
    {
        Action.SEE_AGENT: Scope.READ,
        Action.SEE_MODELS: Scope.READ,
        Action.START_RUN: Scope.WRITE,
        Action.SEE_RUN: Scope.READ,
        Action.STOP_RUN: Scope.WRITE,
        Action.SEE_SESSION: Scope.SESSIONS_READ,
        Action.SET_SESSION: Scope.WRITE,
        Action.CHANGE_SESSION: Scope.ADMIN,
        Action.SEE_USAGE: Scope.READ,
        Action.DECIDE_APPROVAL: Scope.APPROVALS,
        Action.CALL_TOOL: Scope.WRITE,
        Action.EMBED: Scope.WRITE,
    }
)
"""The scope that each action needs."""


@immutable(frozen=True, slots=True)
class Resource:
    """The object of an action. Sessions, runs and approvals have an owner, agents have none."""

    agent: str
    owner: str | None = None
    """The id of a principal; empty if the owner is unknown. None: the resource has no owner, and
    every principal of the agent may use it."""


def may(principal: Principal, action: Action, resource: Resource | None = None) -> bool:
    """Whether the action is permitted; without a resource: on any visible one.

    A principal without a restriction may use the resources of all owners. One that is restricted to
    agents may use these agents, and only its own sessions, runs and approvals of them.
    """
    if not principal.may(NEEDS[action]):
        return False
    if principal.agents is None or resource is None:
        return True
    permitted = resource.agent in principal.agents or principal.agents == EVERY_AGENT
    return permitted and resource.owner in (None, principal.id)


def require(principal: Principal, action: Action, resource: Resource | None = None) -> None:
    """Raises Forbidden if the action is not permitted."""
    if may(principal, action, resource):
        return
    scope = NEEDS[action]
    if not principal.may(scope):
        raise Forbidden(f"missing scope: {scope}", scope=scope)
    raise Forbidden(f"{principal.id} may not {action}: it belongs to another agent or principal.")
