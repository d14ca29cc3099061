"""The permissions of a principal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType


class Scope(StrEnum):
    """The permissions of a Principal; the values are the control protocol's."""

    READ = "operator.read"
    WRITE = "operator.write"
    ADMIN = "operator.admin"
    APPROVALS = "operator.approvals"
    PAIRING = "operator.pairing"
    QUESTIONS = "operator.questions"
    TALK = "operator.talk"
    TALK_SECRETS = "operator.talk.secrets"
    SESSIONS_READ = "operator.sessions.read"
    SESSIONS_WRITE = "operator.sessions.write"


ALL_SCOPES = frozenset(Scope)
_COVERS: Mapping[Scope, frozenset[Scope]] = MappingProxyType(
    {
        Scope.ADMIN: ALL_SCOPES,
        Scope.WRITE: frozenset({Scope.READ, Scope.TALK, Scope.SESSIONS_READ, Scope.SESSIONS_WRITE}),
        Scope.READ: frozenset({Scope.SESSIONS_READ}),
        Scope.SESSIONS_WRITE: frozenset({Scope.SESSIONS_READ}),
    }
)


def covers(held: Collection[Scope], scope: Scope) -> bool:
    """Whether the scopes `held` include `scope`, directly or through another scope."""
    return scope in held or any(scope in _COVERS.get(one, ()) for one in held)
