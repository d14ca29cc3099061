"""The table of actions: scopes, agents and owners."""

from __future__ import annotations

import pytest

from opensoul.domain.access import (
    ALL_SCOPES,
    NEEDS,
    Action,
    Grant,
    Principal,
    Resource,
    Scope,
    covers,
    may,
    require,
)
from opensoul.domain.errors import Forbidden

OPERATOR = Principal("operator", ALL_SCOPES, "token")
GUEST = Principal(
    "guest", frozenset({Scope.READ, Scope.WRITE}), "proxy", agents=frozenset({"guide"})
)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("scope", Scope)
def test_an_action_needs_its_scope(action: Action, scope: Scope) -> None:
    principal = Principal("somebody", frozenset({scope}), "token")

    assert may(principal, action) == covers({scope}, NEEDS[action])
    if not may(principal, action):
        with pytest.raises(Forbidden, match=f"missing scope: {NEEDS[action]}"):
            require(principal, action)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("owner", [None, "", "operator", "guest"])
def test_an_unrestricted_principal_may_use_what_anybody_owns(
    action: Action, owner: str | None
) -> None:
    assert may(OPERATOR, action, Resource("any", owner))


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        (None, True),
        (Resource("guide"), True),
        (Resource("guide", "guest"), True),
        (Resource("guide", ""), False),
        (Resource("guide", "operator"), False),
        (Resource("main"), False),
        (Resource("main", "guest"), False),
    ],
)
def test_a_restricted_principal_may_use_its_own_of_its_agents(
    resource: Resource | None, allowed: bool
) -> None:
    assert may(GUEST, Action.SEE_RUN, resource) == allowed
    if not allowed:
        with pytest.raises(Forbidden, match="guest may not see the run"):
            require(GUEST, Action.SEE_RUN, resource)


@pytest.mark.parametrize(
    ("scopes", "held"),
    [
        ({Scope.READ, Scope.PAIRING}, {Scope.READ}),
        ({Scope.TALK_SECRETS}, set()),
        ({Scope.ADMIN}, ALL_SCOPES - {Scope.ADMIN, Scope.PAIRING, Scope.TALK_SECRETS}),
    ],
)
def test_a_grant_for_some_agents_holds_no_scope_for_the_whole_gateway(
    scopes: set[Scope], held: set[Scope]
) -> None:
    assert Grant("g", "p", frozenset(scopes), frozenset({"guide"})).scopes == held
    assert Grant("g", "p", frozenset(scopes)).scopes == scopes
