"""The chain of authenticators with the lockout around it, and the grants that are in use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from ..access import (
    KEYS,
    SHARED_SECRET,
    ClientAddress,
    Credential,
    Grant,
    Principal,
    SharedSecret,
    is_local,
)
from ..access.devices import (
    DEVICES,
    DeviceEvent,
    DeviceRemoved,
    TokenRevoked,
    TokenRotated,
    grant_id,
)
from ..bounded_logs import KIND
from ..errors import NotLocal, Unauthenticated
from ..ports import Authenticator, CurrentSettings, Limits
from ..settings import AuthMode
from .devices import Devices
from .keys import Keys

logger = logging.getLogger(__name__)

CHECK_SECONDS = 5.0
"""Seconds between two calls of `check`, for authenticators that report no changes."""
CHANGED = "gateway auth changed"

OnEnd = Callable[[str], None]
"""Called once, with the reason, when a grant no longer stands. Must not wait."""


class Access:
    """Authenticates clients, and ends what they do when their grants end.

    The chain: the shared secret, the devices, the API keys, then `plugins` in their order. The
    first grant counts.
    """

    def __init__(
        self,
        *,
        settings: CurrentSettings,
        limits: Limits,
        devices: Devices | None = None,
        keys: Keys | None = None,
        plugins: Mapping[str, Authenticator] | None = None,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._plugins = {f"plugin:{name}": one for name, one in (plugins or {}).items()}
        own: dict[str, Authenticator] = {SHARED_SECRET: SharedSecret(lambda: settings().auth)}
        if devices is not None:
            own[DEVICES] = devices
            devices.on_change(self._device_changed)
        if keys is not None:
            own[KEYS] = keys
            keys.on_end(lambda key_id, reason: self._end(KEYS, key_id, reason))
        self._chain: dict[str, Authenticator] = {**own, **self._plugins}
        self._held: dict[tuple[str, str], dict[Hold, None]] = {}
        """By issuer and id of the grant."""

    @property
    def has_plugins(self) -> bool:
        """Whether a client can be authenticated without a secret or a device."""
        return bool(self._plugins)

    async def authenticate(self, credential: Credential) -> Principal:
        """The Principal that the credential proves.

        Raises Unauthenticated for a missing or wrong credential (a missing one does not count
        towards the lockout), LockedOut for any credential from an address that is locked out,
        NotLocal where no authentication is configured and the client is not on this machine.
        """
        mode = self._settings().auth.mode
        has_none = credential.secret is None and mode is not AuthMode.NONE
        if not has_none or self._plugins:
            principal = await self.recognise(credential)
            if principal is not None:
                return principal
        if has_none:
            raise Unauthenticated(f"A {mode} is needed: Authorization: Bearer <{mode}>.")
        await self.count_failure(credential.client, credential.secret)
        raise Unauthenticated(f"This {mode} is not the Gateway's.")

    async def recognise(self, credential: Credential) -> Principal | None:
        """The Principal that the credential proves; None for a missing or wrong one.

        A wrong one is not counted here: a caller that finds no other proof calls `count_failure`.
        Raises LockedOut and NotLocal, whatever the credential is.
        """
        client, is_open = credential.client, self._settings().auth.mode is AuthMode.NONE
        if not is_open:
            await self._limits.check(client.address)
        may_use_all = not is_open or is_local(client)
        grant = await self._ask(self._chain if may_use_all else self._plugins, credential)
        if grant is None:
            if not may_use_all:
                raise _not_local(client)
            return None
        if not is_open and grant.issuer == SHARED_SECRET:
            # Only this one: a client with a lesser credential could otherwise guess at the secret
            # for ever, with its own credential in between.
            await self._limits.succeeded(client.address)
        return principal_by(grant, address=client.address)

    async def count_failure(self, client: ClientAddress, *secrets: bytes | None) -> None:
        """Count the wrong `secrets` of one attempt towards the lockout of the client's address."""
        limits = self._settings().auth.lockout
        locked = await self._limits.failed(client.address, limits, secrets)
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
                    "seconds": limits.duration,
                    KIND: "lockouts",
                },
            )

    def stands(self, principal: Principal) -> bool:
        """Whether every grant that the principal acts by is in force."""
        return all(map(self._stands, principal.grants))

    def hold(self, principal: Principal, on_end: OnEnd) -> Hold:
        """Have `on_end` called when one of the principal's grants ends, at once where one has ended
        already. Call `release` on the result."""
        held = Hold(self, principal, on_end)
        for key in held.keys:
            self._held.setdefault(key, {})[held] = None
        if not self.stands(principal):
            held.end(CHANGED)
        return held

    def check(self) -> None:
        """End what is held by grants that no longer stand."""
        holds = dict.fromkeys(held for of_grant in self._held.values() for held in of_grant)
        for held in holds:
            if not self.stands(held.principal):
                held.end(CHANGED)

    def _release(self, held: Hold) -> None:
        for key in held.keys:
            of_grant = self._held.get(key)
            if of_grant is not None:
                of_grant.pop(held, None)
                if not of_grant:
                    del self._held[key]

    async def _ask(
        self, chain: Mapping[str, Authenticator], credential: Credential
    ) -> Grant | None:
        for name, authenticator in chain.items():
            grant = await authenticator.authenticate(credential)
            if grant is not None:
                return grant if grant.issuer == name else replace(grant, issuer=name)
        return None

    def _stands(self, grant: Grant) -> bool:
        return self._chain[grant.issuer].stands(grant)

    def _device_changed(self, event: DeviceEvent) -> None:
        match event:
            case TokenRotated(device_id, role):
                self._end(DEVICES, grant_id(device_id, role), "device token rotated")
            case TokenRevoked(device_id, role):
                self._end(DEVICES, grant_id(device_id, role), "device token revoked")
            case DeviceRemoved(device_id, roles):
                for role in roles:
                    self._end(DEVICES, grant_id(device_id, role), "device removed")
            case _:
                pass  # Requests of devices concern no grant.

    def _end(self, issuer: str, grant: str, reason: str) -> None:
        for held in tuple(self._held.get((issuer, grant), ())):
            held.end(reason)


class Hold:
    """Something that lasts as long as its grants do: a connection, a stream."""

    __slots__ = ("_access", "_on_end", "keys", "principal")

    def __init__(self, access: Access, principal: Principal, on_end: OnEnd) -> None:
        self._access = access
        self._on_end: OnEnd | None = on_end
        self.principal = principal
        self.keys = tuple((grant.issuer, grant.id) for grant in principal.grants)

    def end(self, reason: str) -> None:
        """Call `on_end`, the first time."""
        on_end, self._on_end = self._on_end, None
        self._access._release(self)
        if on_end is not None:
            on_end(reason)

    def release(self) -> None:
        """What was held has ended by itself."""
        self._on_end = None
        self._access._release(self)

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def principal_by(grant: Grant, *more: Grant, address: str) -> Principal:
    """The Principal that acts by `grant`, and only as long as `more` stand as well."""
    return Principal(
        grant.principal,
        grant.scopes,
        grant.method or grant.issuer.removeprefix("plugin:"),
        address,
        grant.agents,
        (grant, *more),
        grant.key_id,
    )


def _not_local(client: ClientAddress) -> NotLocal:
    cause = "the request has forwarding headers, so a proxy passed it on"
    if not client.is_forwarded:
        cause = f"the request came from {client.address}"
    return NotLocal(
        "Without authentication (gateway.auth.mode `none`) only programs on the Gateway's own "
        f"machine are served, and {cause}. Set gateway.auth.mode to `token` or `password`, and "
        "send that secret as `Authorization: Bearer <secret>`."
    )
