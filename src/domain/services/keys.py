"""The API keys of clients: authentication, and their management by administrators."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..access import Credential, Grant, Principal, Scope, authorize, grant_of_key
from ..api_keys import (
    DEFAULT_SCOPES,
    KEY_PREFIX,
    ApiKey,
    KeyLimits,
    KeyUsage,
    check_key_name,
    check_scopes,
    key_digest,
)
from ..concurrency import shielded
from ..errors import InvalidRequest, UnknownKey
from ..ports import Clock, CurrentSettings, KeyBook, NodeBus
from .shared_copy import SharedCopy

logger = logging.getLogger(__name__)

MAX_KEYS = 10_000
_PREFIX = KEY_PREFIX.encode()

T = TypeVar("T")

OnKeyEnd = Callable[[str, str], None]
"""Called with the id of a key whose grant is no longer valid, and the reason. Must not wait."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to create; `agents` None: all agents."""

    name: str
    agents: frozenset[str] | None = None
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    limits: KeyLimits = field(default_factory=KeyLimits)
    expires_at: float | None = None


def new_secret() -> str:
    """A key of 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


class Keys:
    """Manages the KeyBook, and is an Authenticator for the keys of the book and of the
    configuration. Call `open` first.

    `bus`: of the nodes that share the book. The methods with a `principal` raise Forbidden without
    `operator.admin`, and StoreFailed.
    """

    def __init__(
        self,
        *,
        book: KeyBook,
        settings: CurrentSettings,
        clock: Clock,
        bus: NodeBus | None = None,
        new_id: Callable[[], str] = lambda: f"key_{secrets.token_hex(8)}",
        new_secret: Callable[[], str] = new_secret,
    ) -> None:
        self._book = book
        self._settings = settings
        self._clock = clock
        self._new_id = new_id
        self._new_secret = new_secret
        self._stored: dict[str, ApiKey] = {}
        self._configured: tuple[ApiKey, ...] | None = None
        """The keys of the configuration that the indexes are of."""
        self._by_id: Mapping[str, ApiKey] = {}
        self._by_digest: Mapping[str, ApiKey] = {}
        self._grants: Mapping[str, Grant] = {}
        """By the ids of the keys."""
        self._changing = asyncio.Lock()
        self._listeners: list[OnKeyEnd] = []
        self._copy = SharedCopy(bus, "keys", self.renew)

    async def open(self) -> None:
        """Read the book. Raises StoreFailed."""
        self._copy.open()
        async with self._changing:
            self._replace(await self._book.load())

    async def close(self) -> None:
        """Renew the copy of the book no more."""
        await self._copy.close()

    async def renew(self) -> None:
        """Adopt what other nodes have saved. Raises StoreFailed."""
        async with self._changing:
            await self._adopt()

    def on_end(self, listener: OnKeyEnd) -> None:
        """Have `listener` called when a key is changed, rotated or revoked, at whichever node."""
        self._listeners.append(listener)

    async def authenticate(self, credential: Credential) -> Grant | None:
        """The grant of the key that was sent as the secret, unless it is expired or revoked."""
        if credential.secret is None:
            return None
        digest = key_digest(credential.secret)
        self._index()
        # Nobody can choose a digest, so that the time of the look-up reveals nothing of a key.
        key = self._by_digest.get(digest)
        if key is None and self._copy.shared and credential.secret.startswith(_PREFIX):
            # Another node may have created it a moment ago.
            await self._copy.renewed()
            self._index()
            key = self._by_digest.get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest):
            return None
        return self._grants[key.id] if key.is_valid(self._clock()) else None

    def stands(self, grant: Grant) -> bool:
        """Whether the key is valid, and neither rotated nor changed since."""
        key = self.find(grant.id)
        if key is None or not key.is_valid(self._clock()):
            return False
        return self._grants[key.id].revision == grant.revision

    def find(self, key_id: str) -> ApiKey | None:
        """The key of that id."""
        self._index()
        return self._by_id.get(key_id)

    async def list(self, principal: Principal, *, revoked: bool = False) -> tuple[ApiKey, ...]:
        """The keys, oldest first; `revoked`: also the revoked ones."""
        authorize(principal, Scope.ADMIN)
        await self.renew()
        self._index()
        keys = [key for key in self._by_id.values() if revoked or key.revoked_at is None]
        return tuple(sorted(keys, key=lambda key: (key.created_at, key.name)))

    async def show(self, principal: Principal, name: str) -> ApiKey:
        """The key of a name or an id. Raises UnknownKey."""
        authorize(principal, Scope.ADMIN)
        await self.renew()
        return self._named(name)

    async def create(self, principal: Principal, new: NewKey) -> tuple[ApiKey, str]:
        """The key and its secret, which is not stored. Raises InvalidRequest."""

        def make() -> tuple[ApiKey, str]:
            authorize(principal, Scope.ADMIN)
            now, secret = self._clock(), self._new_secret()
            key = ApiKey(
                id=self._new_id(),
                name=check_key_name(new.name),
                digest=key_digest(secret.encode()),
                created_at=now,
                scopes=new.scopes,
                agents=new.agents,
                limits=new.limits,
                expires_at=new.expires_at,
            )
            self._check_new(key, now)
            return key, secret

        key, secret = await self._change(make)
        logger.info("an API key was created", extra={"key_id": key.id, "key_name": key.name})
        return key, secret

    async def rotate(self, principal: Principal, name: str) -> tuple[ApiKey, str]:
        """Replace the secret of a key; what uses the old one ends. Raises UnknownKey,
        InvalidRequest for a key of the configuration or a revoked one."""

        def make() -> tuple[ApiKey, str]:
            authorize(principal, Scope.ADMIN)
            key, secret = self._stored_one(name), self._new_secret()
            digest = key_digest(secret.encode())
            return replace(key, digest=digest, rotated_at=self._clock()), secret

        return await self._change(make)

    async def revoke(self, principal: Principal, name: str) -> ApiKey:
        """Revoke a key for ever; what uses it ends. Raises as `rotate` does."""

        def make() -> tuple[ApiKey, None]:
            authorize(principal, Scope.ADMIN)
            # The digest goes, so that the secret proves nothing in any version of this program.
            key = self._stored_one(name)
            return replace(key, digest="", revoked_at=self._clock()), None

        revoked, _ = await self._change(make)
        return revoked

    async def usage(self, principal: Principal, since: str) -> tuple[KeyUsage, ...]:
        """The usage of all keys by day, from the day `since` on."""
        authorize(principal, Scope.ADMIN)
        return await self._book.usage(since)

    def _check_new(self, key: ApiKey, now: float) -> None:
        check_scopes(key.scopes, key.agents)
        for agent in sorted(key.agents or ()):
            self._settings().agents.find(agent, param="agents")
        if key.agents is not None and not key.agents:
            raise InvalidRequest("Name at least one agent, or none for all.", param="agents")
        if key.expires_at is not None and key.expires_at <= now:
            raise InvalidRequest("The time of expiry is in the past.", param="expiresAt")
        self._index()
        if any(one.name == key.name and one.revoked_at is None for one in self._by_id.values()):
            raise InvalidRequest(f"There is a key named {key.name!r} already.", param="name")
        if len(self._stored) >= MAX_KEYS:
            raise InvalidRequest(f"There are {MAX_KEYS} keys, the most that are kept.")

    def _stored_one(self, name: str) -> ApiKey:
        key = self._named(name)
        if key.configured:
            raise InvalidRequest(
                f"The key {key.name!r} is configured in gateway.auth.keys; change it there."
            )
        if key.revoked_at is not None:
            raise InvalidRequest(f"The key {key.name!r} is revoked; create another one.")
        return key

    def _named(self, name: str) -> ApiKey:
        key = self.find(name)
        if key is None:
            named = (one for one in self._by_id.values() if one.name == name)
            key = next((one for one in named if one.revoked_at is None), None)
        if key is None:
            raise UnknownKey(f"There is no API key {name!r}.")
        return key

    def _index(self) -> None:
        """Index the keys again where the configuration or the book has changed."""
        configured = self._settings().auth.keys
        if self._configured is configured:
            return
        self._configured = configured
        self._by_id = {**self._stored, **{key.id: key for key in configured}}
        self._by_digest = {key.digest: key for key in self._by_id.values() if key.digest}
        self._grants = {key.id: grant_of_key(key) for key in self._by_id.values()}

    async def _change(self, make: Callable[[], tuple[ApiKey, T]]) -> tuple[ApiKey, T]:
        # Shielded: a caller that is cancelled must not leave the book ahead of `_stored`.
        return await shielded(self._make_and_save(make))

    async def _make_and_save(self, make: Callable[[], tuple[ApiKey, T]]) -> tuple[ApiKey, T]:
        async with self._changing:
            while True:
                # Of several nodes each decides on what all of them have saved.
                await self._adopt()
                key, result = make()
                if await self._book.save(key):
                    self._replace((*self._stored.values(), key))
                    self._copy.changed()
                    return key, result

    async def _adopt(self) -> None:
        newer = await self._book.newer()
        if newer is not None:
            self._replace(newer)

    def _replace(self, keys: Iterable[ApiKey]) -> None:
        """Hold these keys; of several with one id the last. What uses a grant that is no longer
        valid ends."""
        before, self._stored = self._stored, {key.id: key for key in keys}
        self._configured = None
        for key in before.values():
            if reason := _why_ended(key, self._stored.get(key.id)):
                logger.info(reason, extra={"key_id": key.id, "key_name": key.name})
                for listener in tuple(self._listeners):
                    listener(key.id, reason)


def _why_ended(before: ApiKey, after: ApiKey | None) -> str:
    """Why the grant of a key is no longer valid; empty where it is, or was not before."""
    if after == before or before.revoked_at is not None:
        return ""
    if after is None or after.revoked_at is not None:
        return "API key revoked"
    if after.digest != before.digest:
        return "API key rotated"
    same = grant_of_key(after).revision == grant_of_key(before).revision
    return "" if same else "API key changed"
