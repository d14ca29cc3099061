"""Who is asking: a credential becomes a Principal with scopes, or is refused."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from .addresses import ClientAddress
from .errors import Forbidden, Unauthenticated
from .lockout import Lockout
from .settings import AuthMode, AuthSettings

logger = logging.getLogger(__name__)


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


def covers(held: Collection[Scope], scope: Scope) -> bool:
    """Whether who holds `held` may do what `scope` stands for."""
    return scope in held or any(scope in _COVERS.get(one, ()) for one in held)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, once proven. `method` is how: token, password or none."""

    id: str
    scopes: frozenset[Scope]
    method: str
    address: str = ""

    def may(self, scope: Scope) -> bool:
        """Admin may everything; who may write may read."""
        return covers(self.scopes, scope)


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client brought. `secret` holds the bytes as they came, None when it brought none."""

    client: ClientAddress
    secret: bytes | None = None

    def __repr__(self) -> str:
        shown = "none" if self.secret is None else "***"
        return f"Credential(client={self.client!r}, secret={shown})"


def authorize(principal: Principal, scope: Scope) -> None:
    """The one check of what a Principal may do. Raises Forbidden."""
    if not principal.may(scope):
        raise Forbidden(f"missing scope: {scope}", scope=scope)


def authenticate(credential: Credential, settings: AuthSettings, lockout: Lockout) -> Principal:
    """The Principal that the credential proves.

    Raises Unauthenticated for a missing or wrong credential (a missing one does not count towards
    the lockout), LockedOut for any credential from an address that is locked out.
    """
    if settings.mode is not AuthMode.NONE and credential.secret is None:
        raise Unauthenticated(
            f"A {settings.mode} is needed: Authorization: Bearer <{settings.mode}>."
        )
    principal = recognise(credential, settings, lockout)
    if principal is None:
        count_failure(credential.client, settings, lockout)
        raise Unauthenticated(f"This {settings.mode} is not the Gateway's.")
    return principal


def recognise(credential: Credential, settings: AuthSettings, lockout: Lockout) -> Principal | None:
    """The Principal that the credential proves; None for a missing or wrong one.

    That is not counted: who finds no other proof either calls `count_failure`. Raises LockedOut,
    whatever was brought.
    """
    address = credential.client.address
    if settings.mode is AuthMode.NONE:
        return Principal("anonymous", ALL_SCOPES, settings.mode, address)
    lockout.check(address)
    if credential.secret is None or not _matches(credential.secret, settings):
        return None
    lockout.succeeded(address)
    return Principal("operator", ALL_SCOPES, settings.mode, address)


def _matches(presented: bytes, settings: AuthSettings) -> bool:
    expected = settings.secret.reveal() if settings.secret is not None else ""
    if not expected:
        return False  # Nobody gets in by bringing nothing.
    return hmac.compare_digest(
        hashlib.sha256(presented).digest(),
        hashlib.sha256(expected.encode("utf-8", "surrogatepass")).digest(),
    )


def count_failure(client: ClientAddress, settings: AuthSettings, lockout: Lockout) -> None:
    """Count a wrong credential towards the lockout of where it came from."""
    locked = lockout.failed(client.address, settings.lockout)
    if client.forwarded_by_stranger and client.is_loopback:
        logger.warning(
            "a wrong credential came from loopback with forwarding headers: if a reverse proxy "
            "runs here, list it in gateway.trustedProxies, or one guesser locks out everybody",
            extra={"client": client.address},
        )
    if locked:
        logger.warning(
            "too many wrong credentials: the address is locked out",
            extra={"client": client.address, "seconds": settings.lockout.duration},
        )
