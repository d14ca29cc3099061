"""The authenticator for the Gateway's shared secret, or for mode `none`."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

from ..api_keys import KEY_PREFIX
from ..scopes import ALL_SCOPES
from ..settings import AuthMode, AuthSettings
from .addresses import ClientAddress
from .authentication import Credential, Grant

SHARED_SECRET = "shared-secret"  # noqa: S105 - the name of its authenticator


class SharedSecret:
    """An Authenticator for the token or the password of the configuration.

    In mode `none` it needs no secret, and accepts only programs on this machine.
    """

    def __init__(self, settings: Callable[[], AuthSettings]) -> None:
        self._settings = settings
        self._key = secrets.token_bytes(32)
        """The key of the revisions: a digest under it reveals nothing, even of a short secret."""
        self._known: tuple[AuthSettings, bytes, Grant] | None = None

    async def authenticate(self, credential: Credential) -> Grant | None:
        settings, expected, grant = self._current()
        if settings.mode is AuthMode.NONE:
            # A device whose token suffices gets only the grant of that token.
            by_token = credential.device is not None and credential.device.suffices
            # Neither does a client that sends an API key get more than the grant of that key.
            by_key = (credential.secret or b"").startswith(KEY_PREFIX.encode())
            return grant if is_local(credential.client) and not (by_token or by_key) else None
        if credential.secret is None or not expected:
            return None  # An empty secret is never valid.
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
        """The digest of the secret, empty if there is none, and its grant."""
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
    """Whether the client is a program on this machine, and not a proxy's client."""
    return client.is_local and not client.is_forwarded
