"""Credentials, the Grant that a credential proves, and the Principal of a grant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import Forbidden
from ..scopes import ALL_SCOPES, Scope, covers
from .addresses import ClientAddress

_FOR_AGENTS = ALL_SCOPES - {Scope.ADMIN, Scope.PAIRING, Scope.TALK_SECRETS}
"""The scopes of grants that are restricted to agents."""
EVERY_AGENT = frozenset({"*"})
"""As the agents of a grant: all of them, but of each only the principal's own sessions, runs and
approvals."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The access that an authenticator gives a client, valid until it is withdrawn.

    A grant that is restricted to `agents` has no scope of the whole Gateway: `operator.admin`
    becomes the scopes that concern single agents.
    """

    id: str
    """Identifies the credential within its authenticator. It is logged, so it is not a secret."""
    principal: str
    """The id of the Principal, which may have several grants."""
    scopes: frozenset[Scope]
    agents: frozenset[str] | None = None
    """The ids of the permitted agents, or EVERY_AGENT; None: not restricted."""
    revision: str = ""
    """Changes when the credential is replaced; connections of an earlier revision are ended."""
    issuer: str = ""
    """The authenticator's name, set by the chain."""
    method: str = ""
    """The authentication method, for logs and clients; by default the issuer's name."""
    key_id: str = ""
    """The id of the API key, whose limits apply; empty: it is no key."""

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
    """The permitted agents, or EVERY_AGENT; None: not restricted."""
    grants: tuple[Grant, ...] = field(default=(), compare=False, repr=False)
    """All of them must be valid. Empty for the Gateway's own principals."""
    key_id: str = ""
    """The id of its API key, whose limits apply to it; empty: it has none."""

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
    """The credentials that a client sent."""

    client: ClientAddress
    secret: bytes | None = None
    """The bytes as sent; None if the client sent no secret."""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    """All headers of the request or upgrade, with names in lower case, for authenticators."""
    device: DeviceCredential | None = None

    def __repr__(self) -> str:
        shown = "none" if self.secret is None else "***"
        return f"Credential(client={self.client!r}, secret={shown})"


def authorize(principal: Principal, scope: Scope) -> None:
    """Raises Forbidden if the principal lacks the scope."""
    if not principal.may(scope):
        raise Forbidden(f"missing scope: {scope}", scope=scope)
