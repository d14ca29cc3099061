"""The Gateway's own secret, or none in mode `none`: one grant for everything."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

from ..settings import AuthMode, AuthSettings
from .addresses import ClientAddress
from .authentication import ALL_SCOPES, Credential, Grant

SHARED_SECRET = "shared-secret"  # noqa: S105 - the name of its authenticator


class SharedSecret:
    """An Authenticator for the token or the password of the configuration.

    In mode `none` it needs no secret, and serves programs of this machine alone.
    """

    def __init__(self, settings: Callable[[], AuthSettings]) -> None:
        self._settings = settings
        self._key = secrets.token_bytes(32)
        """Of the revisions: a digest under it shows nothing of a secret, however short that is."""
        self._known: tuple[AuthSettings, bytes, Grant] | None = None

    async def authenticate(self, credential: Credential) -> Grant | None:
        settings, expected, grant = self._current()
        if settings.mode is AuthMode.NONE:
            # A device whose token covers the request acts by that token alone.
            by_token = credential.device is not None and credential.device.suffices
            return grant if is_local(credential.client) and not by_token else None
        if credential.secret is None or not expected:
            return None  # An empty secret proves nothing.
        matches = hmac.compare_digest(hashlib.sha256(credential.secret).digest(), expected)
        return grant if matches else None

    def stands(self, grant: Grant) -> bool:
        _, _, current = self._current()
        return (grant.id, grant.revision) == (current.id, current.revision)

    def _current(self) -> tuple[AuthSettings, bytes, Grant]:
        settings = self._settings()
        if self._known is None or self._known[0] is not settings:
            self._known = (settings, *self._made(settings))
        return self._known

    def _made(self, settings: AuthSettings) -> tuple[bytes, Grant]:
        """The digest of the secret, empty where there is none, and the grant that it proves."""
        secret = b""
        if settings.mode is not AuthMode.NONE and settings.secret is not None:
            secret = settings.secret.reveal().encode("utf-8", "surrogatepass")
        revision = hashlib.blake2b(secret, key=self._key, digest_size=16).hexdigest()
        name = "anonymous" if settings.mode is AuthMode.NONE else "operator"
        grant = Grant(
            id=name,
            principal=name,
            scopes=ALL_SCOPES,
            revision=revision,
            issuer=SHARED_SECRET,
            method=settings.mode,
        )
        return hashlib.sha256(secret).digest() if secret else b"", grant


def is_local(client: ClientAddress) -> bool:
    """Whether the client is a program of this machine. A proxy on this machine connects from
    loopback, whoever its client is."""
    return client.is_local and not client.is_forwarded
