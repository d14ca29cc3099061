"""The devices that may connect: they prove themselves, are approved, and hold tokens.

Nobody gives what they do not hold: a device gets what it was approved for, by somebody who may do
all of it, or by the shared secret in the hands of somebody at this machine.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from ..access import Credential, Grant, Principal, Scope, authorize
from ..access.devices import (
    Change,
    Claim,
    DeviceEvent,
    DeviceRemoved,
    DeviceState,
    DeviceToken,
    Entry,
    Fresh,
    MintedToken,
    NewToken,
    PairedDevice,
    PairingRequested,
    PairingRequired,
    PairingResolved,
    PendingPairing,
    Proof,
    Role,
    TokenRevoked,
    TokenRotated,
    VerifySignature,
    Visitor,
    check_proof,
    device_of,
    entered,
    expired,
    grant_of,
    holder,
    suffices,
)
from ..access.devices import decisions as decisions
from ..concurrency import shielded
from ..ports import Clock, DeviceBook

logger = logging.getLogger(__name__)

EXPIRY_SECONDS = 15.0
"""Seconds between two calls of `expire`, so that requests expire also while nobody comes."""

_WORDS: Mapping[type[DeviceEvent], str] = MappingProxyType(
    {
        PairingRequested: "a device asks to be let in",
        PairingResolved: "a device's request was decided on",
        TokenRotated: "a device got a new token",
        TokenRevoked: "a device's token was revoked",
        DeviceRemoved: "a device was removed",
    }
)

OnChange = Callable[[DeviceEvent], None]
"""Is told of every change once it is kept. Must not wait."""

T = TypeVar("T")


def random_id() -> str:
    """An identifier that nobody can guess."""
    return str(uuid.uuid4())


def random_token() -> str:
    """256 random bits in the letters of base64url."""
    return secrets.token_urlsafe(32)


class Devices:
    """Keeps the book of devices, and is an Authenticator for their tokens. `open` comes first."""

    def __init__(
        self,
        *,
        book: DeviceBook,
        clock: Clock,
        verify: VerifySignature,
        new_id: Callable[[], str] = random_id,
        new_token: NewToken = random_token,
    ) -> None:
        self._book = book
        self._clock = clock
        self._new_id = new_id
        self._new_token = new_token
        self._verify = verify
        self._kept: DeviceState | None = None
        self._changing = asyncio.Lock()
        self._told: list[OnChange] = []

    async def open(self) -> None:
        """Read the book. Raises StoreFailed."""
        self._kept = await self._book.load()

    async def expire(self) -> None:
        """Let go of requests that nobody has decided on in time. Raises StoreFailed."""
        await self._change(lambda state, _: Change(state, None))

    def on_change(self, told: OnChange) -> Callable[[], None]:
        """Have `told` called for every change; what is returned ends that."""
        self._told.append(told)
        return lambda: self._told.remove(told)

    def check_proof(self, proof: Proof, claim: Claim, nonce: str) -> str:
        """The device's public key in base64url. Raises ProofRefused."""
        return check_proof(proof, claim, nonce=nonce, now=self._clock(), verify=self._verify)

    def knows(self, device_id: str, token: str) -> bool:
        """Whether that is a token of that device, in whichever role."""
        return holder(self._state.paired.get(device_id), token) is not None

    def suffices(self, visitor: Visitor, token: str) -> bool:
        """Whether the device may have all it asks for by that token alone."""
        return suffices(self._state.paired.get(visitor.device_id), visitor, token)

    async def authenticate(self, credential: Credential) -> Grant | None:
        """What a device is granted in the role of the token that it sent. The device has proven its
        identity; `enter` then admits it, in the role and with the scopes that it asks for."""
        claimed = credential.device
        if claimed is None or claimed.token is None:
            return None
        device = self._state.paired.get(claimed.device_id)
        token = holder(device, claimed.token)
        return None if device is None or token is None else grant_of(device, token)

    def grant(self, device_id: str, role: Role) -> Grant | None:
        """What the device is granted in that role now."""
        device = self._state.paired.get(device_id)
        token = None if device is None else device.tokens.get(role)
        if device is None or token is None or token.revoked_at is not None:
            return None
        return grant_of(device, token)

    def stands(self, grant: Grant) -> bool:
        """Whether the device is paired, and its token neither rotated nor revoked since."""
        _, device_id, role = grant.id.split(":")
        current = self.grant(device_id, Role(role))
        return current is not None and current.revision == grant.revision

    async def enter(self, visitor: Visitor, *, token: str | None, silent: bool = False) -> Entry:
        """Let a device in that has proven itself.

        It brought the shared secret, or else `token`, which never widens what it stands for.
        `silent`: approve what is new without asking; only for who brought the secret, at this
        machine, and never what somebody revoked. Raises PairingRequired, TokenRefused,
        GatewayBusy, StoreFailed.
        """

        def make(state: DeviceState, fresh: Fresh) -> Change[Entry | PendingPairing]:
            return entered(state, visitor, fresh, token=token, silent=silent)

        result = await self._change(make)
        if isinstance(result, PendingPairing):
            raise PairingRequired(result.request_id, result.reason)
        return result

    async def list(
        self, principal: Principal
    ) -> tuple[tuple[PendingPairing, ...], tuple[PairedDevice, ...]]:
        """Who asks, and who is paired. Raises Forbidden, StoreFailed."""
        authorize(principal, Scope.PAIRING)
        await self.expire()
        return tuple(self._state.pending.values()), tuple(self._state.paired.values())

    async def approve(
        self, principal: Principal, request_id: str, agents: frozenset[str] | None = None
    ) -> PairedDevice:
        """Let a device have what it asks for, all of which the principal must hold, with these
        agents alone; None: with the agents that it had, a new device with all.

        Raises Forbidden, InvalidRequest, GatewayBusy, StoreFailed.
        """
        return await self._change(
            partial(decisions.approve, principal=principal, request_id=request_id, agents=agents)
        )

    async def reject(self, principal: Principal, request_id: str) -> PendingPairing:
        """Let a device not have what it asks for. Raises Forbidden, InvalidRequest, StoreFailed."""
        return await self._change(
            partial(decisions.reject, principal=principal, request_id=request_id)
        )

    async def remove(self, principal: Principal, device_id: str) -> PairedDevice:
        """Forget a device, its tokens and what it asks for.

        Raises Forbidden, InvalidRequest, StoreFailed.
        """
        return await self._change(
            partial(decisions.remove, principal=principal, device_id=device_id)
        )

    async def rotate(
        self,
        principal: Principal,
        device_id: str,
        role: str,
        scopes: frozenset[Scope] | None = None,
    ) -> MintedToken:
        """Make a new token in the place of the old one, with fewer `scopes` where they are given:
        never with more than the device has, nor with any that the principal does not hold.

        Raises Forbidden, InvalidRequest, StoreFailed.
        """
        return await self._change(
            partial(
                decisions.rotate,
                principal=principal,
                device_id=device_id,
                role=role,
                scopes=scopes,
            )
        )

    async def revoke(self, principal: Principal, device_id: str, role: str) -> DeviceToken:
        """Let a device in no more, in that role, until it is approved again.

        Raises Forbidden, InvalidRequest, StoreFailed.
        """
        return await self._change(
            partial(decisions.revoke, principal=principal, device_id=device_id, role=role)
        )

    @property
    def _state(self) -> DeviceState:
        if self._kept is None:
            raise RuntimeError("the devices were not opened")
        return self._kept

    async def _change(self, make: Callable[[DeviceState, Fresh], Change[T]]) -> T:
        # Who stops waiting must not leave the book ahead of what is known of it.
        return await shielded(self._keep(make))

    async def _keep(self, make: Callable[[DeviceState, Fresh], Change[T]]) -> T:
        async with self._changing:
            fresh = Fresh(self._clock(), self._new_id(), self._new_token())
            await self._save(expired(self._state, fresh.at))
            change = make(self._state, fresh)
            await self._save(change)
            return change.result

    async def _save(self, change: Change[T]) -> None:
        if change.state is not self._state:
            await self._book.save(change.state)
            self._kept = change.state
        for event in change.events:
            logger.info(_WORDS[type(event)], extra={"device": device_of(event)})
            for told in tuple(self._told):
                told(event)
