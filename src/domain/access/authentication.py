"""Who is asking: a credential becomes a Principal with scopes, or is refused."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from ..bounded_logs import KIND
from ..errors import Forbidden, NotLocal, Unauthenticated
from ..settings import AuthMode, AuthSettings
from .addresses import ClientAddress
from .lockout import Lockout

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
    the lockout), LockedOut for any credential from an address that is locked out, NotLocal where
    no authentication is configured and the client is not on this machine.
    """
    if settings.mode is not AuthMode.NONE and credential.secret is None:
        raise Unauthenticated(
            f"A {settings.mode} is needed: Authorization: Bearer <{settings.mode}>."
        )
    principal = recognise(credential, settings, lockout)
    if principal is None:
        count_failure(credential.client, settings, lockout, credential.secret)
        raise Unauthenticated(f"This {settings.mode} is not the Gateway's.")
    return principal


def recognise(credential: Credential, settings: AuthSettings, lockout: Lockout) -> Principal | None:
    """The Principal that the credential proves; None for a missing or wrong one.

    A wrong one is not counted here: a caller that finds no other proof calls `count_failure`.
    Raises LockedOut and NotLocal, whatever the credential is.
    """
    address = credential.client.address
    if settings.mode is AuthMode.NONE:
        _require_local(credential.client)
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


def _require_local(client: ClientAddress) -> None:
    """Raises NotLocal. A proxy on this machine connects from loopback, whoever its client is."""
    if client.is_local and not client.is_forwarded:
        return
    cause = "the request has forwarding headers, so a proxy passed it on"
    if not client.is_forwarded:
        cause = f"the request came from {client.address}"
    raise NotLocal(
        "Without authentication (gateway.auth.mode `none`) only programs on the Gateway's own "
        f"machine are served, and {cause}. Set gateway.auth.mode to `token` or `password`, and "
        "send that secret as `Authorization: Bearer <secret>`."
    )


def count_failure(
    client: ClientAddress, settings: AuthSettings, lockout: Lockout, *secrets: bytes | None
) -> None:
    """Count the wrong `secrets` of one attempt towards the lockout of the client's address."""
    locked = lockout.failed(client.address, settings.lockout, secrets)
    if client.forwarded_by_stranger and client.is_loopback:
        logger.warning(
            "a wrong credential came from loopback with forwarding headers: if a reverse proxy "
            "runs here, list it in gateway.trustedProxies, or one guesser locks out everybody",
            extra={"client": client.address, KIND: "credentials without a trusted proxy"},
        )
    if locked:
        logger.warning(
            "too many wrong credentials: the address is locked out",
            extra={
                "client": client.address,
                "seconds": settings.lockout.duration,
                KIND: "lockouts",
            },
        )
