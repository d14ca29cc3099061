"""Scopes, credentials, and what a credential proves: a Grant, and the Principal that acts by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from ..errors import Forbidden
from .addresses import ClientAddress


class Scope(StrEnum):
    """What a Principal may do; the names are the control protocol's."""

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
_FOR_AGENTS = ALL_SCOPES - {Scope.ADMIN, Scope.PAIRING, Scope.TALK_SECRETS}
"""The scopes that a grant for single agents can hold."""


def covers(held: Collection[Scope], scope: Scope) -> bool:
    """Whether a holder of `held` may do what `scope` stands for."""
    return scope in held or any(scope in _COVERS.get(one, ()) for one in held)


@dataclass(frozen=True, slots=True)
class Grant:
    """What an authenticator lets a client do, for as long as the grant stands.

    A grant that is restricted to `agents` holds none of the scopes that concern the whole Gateway:
    `operator.admin` becomes the scopes that concern single agents.
    """

    id: str
    """Names the credential, unique for its authenticator. It is logged: no secret."""
    principal: str
    """The id of the Principal: several grants may be one principal's."""
    scopes: frozenset[Scope]
    agents: frozenset[str] | None = None
    """The ids of the only agents that it is for; None: all agents."""
    revision: str = ""
    """Changes when the credential is replaced: what used an earlier revision is ended."""
    issuer: str = ""
    """The authenticator's name; the chain sets it."""
    method: str = ""
    """How it was proven, for logs and clients; left out, the issuer's name."""

    def __post_init__(self) -> None:
        if self.agents is not None:
            admin = Scope.ADMIN in self.scopes
            scopes = _FOR_AGENTS if admin else self.scopes & _FOR_AGENTS
            object.__setattr__(self, "scopes", scopes)


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated client of a request or connection. `method`: token, password, none,
    device-token or the name of an authenticator plugin."""

    id: str
    scopes: frozenset[Scope]
    method: str
    address: str = ""
    agents: frozenset[str] | None = None
    """The only agents that it may use; None: all agents."""
    grants: tuple[Grant, ...] = field(default=(), compare=False, repr=False)
    """All of them have to stand. None for the Gateway's own principals."""

    def may(self, scope: Scope) -> bool:
        """Whether the scopes held cover `scope`."""
        return covers(self.scopes, scope)


@dataclass(frozen=True, slots=True)
class DeviceCredential:
    """A device that has proven its identity, and the token that it sent, if any.

    `suffices`: the device sent the token as its own, and the token covers the whole request.
    """

    device_id: str
    role: str
    token: str | None = field(default=None, repr=False)
    suffices: bool = False


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client sent to prove who it is."""

    client: ClientAddress
    secret: bytes | None = None
    """The bytes as sent; None when the client sent no secret."""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    """Those of the request or of the upgrade, names in lower case, for authenticators that read
    others than the secret's."""
    device: DeviceCredential | None = None

    def __repr__(self) -> str:
        shown = "none" if self.secret is None else "***"
        return f"Credential(client={self.client!r}, secret={shown})"


def authorize(principal: Principal, scope: Scope) -> None:
    """Raises Forbidden where the principal lacks the scope."""
    if not principal.may(scope):
        raise Forbidden(f"missing scope: {scope}", scope=scope)
