"""The one decision about a connection: who it is, and what it may do, or why it is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from .....domain.access import Credential, Principal, Scope, covers
from .....domain.access.devices import (
    MintedToken,
    PairingRequired,
    ProofRefused,
    TokenRefused,
    Visitor,
)
from .....domain.errors import GatewayError, LockedOut, NotLocal
from .....domain.services import Devices, Gateway
from .....domain.settings import AuthMode, AuthSettings
from ..protocol import ConnectParams, DeviceProof, RequestFrame
from . import connect_refusals as refusals
from .connect_request import ConnectRequest, proof_of, read
from .origins import is_at_this_machine
from .peer import Peer as Peer

DEVICE_TOKEN = "device-token"  # noqa: S105 - the name of a method


@dataclass(frozen=True, slots=True)
class Admitted:
    """A client that is let in. `method`: token, password, none or device-token. `auth`: the
    authentication settings that it was let in under, None where a device's token proved it."""

    principal: Principal
    role: str
    protocol: int
    params: ConnectParams
    device_id: str | None
    minted: MintedToken | None
    method: str
    auth: AuthSettings | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    """The device's token that proved it, or the one it was given in its place."""


class Handshake:
    """Answers `connect`."""

    def __init__(self, gateway: Gateway, devices: Devices) -> None:
        self._gateway = gateway
        self._devices = devices

    async def admit(self, frame: RequestFrame, caller: Peer) -> Admitted:
        """Who is let in by the first request of a connection. Raises Refusal."""
        asked = read(frame, caller, self._gateway.settings)
        try:
            device = asked.params.device
            if device is None:
                return self._without_device(asked)
            return await self._with_device(asked, device)
        except LockedOut as error:
            raise refusals.locked_out(error) from None
        except NotLocal as error:
            raise refusals.not_local(error) from None
        except ProofRefused as error:
            raise refusals.bad_proof(error) from None
        except PairingRequired as error:
            raise refusals.unpaired(error) from None
        except TokenRefused:
            raise asked.refused() from None
        except GatewayError as error:
            raise refusals.failed(error, asked.protocol) from None

    def stands(self, admitted: Admitted) -> bool:
        """Whether the client would still be let in: things may have changed while it was."""
        if admitted.auth is not None and admitted.auth != self._gateway.settings.auth:
            return False
        if admitted.device_id is None:
            return True
        if admitted.token is not None:
            return self._devices.knows(admitted.device_id, admitted.token)
        return self._devices.is_paired(admitted.device_id, admitted.role)

    def _without_device(self, asked: ConnectRequest) -> Admitted:
        """Only the Gateway's secret lets in who has no device; it stands for everything."""
        if refusals.is_control_ui(asked.params.client):
            raise refusals.control_ui_without_device()
        secret = asked.secret
        if secret is None and asked.settings.mode is not AuthMode.NONE:
            raise refusals.no_device()
        principal = self._recognise(asked, secret)
        if principal is None:
            self._gateway.count_failure(asked.caller.address, _bytes(secret))
            raise asked.refused()
        return _admitted(asked, principal, granted(asked.scopes, principal.scopes))

    async def _with_device(self, asked: ConnectRequest, device: DeviceProof) -> Admitted:
        visitor = self._prove(asked, device)
        principal, token = self._credential(asked, visitor)
        silent = principal is not None and is_at_this_machine(asked.caller)
        entry = await self._devices.enter(visitor, token=token, silent=silent)
        address = asked.caller.address.address
        method = DEVICE_TOKEN if principal is None else principal.method
        known = Principal(f"device:{visitor.device_id}", entry.scopes, method, address)
        if entry.minted is not None and token is not None:
            token = entry.minted.token
        admitted = _admitted(asked, known, entry.scopes, visitor.device_id, entry.minted)
        return replace(admitted, token=token)

    def _prove(self, asked: ConnectRequest, device: DeviceProof) -> Visitor:
        key = self._devices.check_proof(proof_of(device), asked.claim, asked.caller.nonce)
        return Visitor(device.id, key, asked.role, asked.scopes, asked.info)

    def _credential(
        self, asked: ConnectRequest, visitor: Visitor
    ) -> tuple[Principal | None, str | None]:
        """The Principal that the Gateway's secret proves, or else the device's own token.

        A token that is enough leaves nothing to be tried beside it: who holds one must not get to
        guess at the secret. Where both were tried, the wrong guess counts all the same.
        """
        explicit = asked.auth.device_token or None
        enough = explicit is not None and self._devices.suffices(visitor, explicit)
        secret = None if enough else asked.secret
        token = explicit or asked.auth.token or None
        if secret is None and token is None and asked.settings.mode is not AuthMode.NONE:
            raise asked.refused()
        principal = self._recognise(asked, secret)
        if enough:
            return None, explicit
        if principal is not None:
            return principal, None
        known = token is not None and self._devices.knows(visitor.device_id, token)
        if not known or secret not in (None, token):
            tried = dict.fromkeys((secret, token))
            self._gateway.count_failure(
                asked.caller.address, *(_bytes(text) for text in tried if text is not None)
            )
        if not known:
            raise asked.refused()
        return None, token

    def _recognise(self, asked: ConnectRequest, secret: str | None) -> Principal | None:
        return self._gateway.recognise(Credential(asked.caller.address, _bytes(secret)))


def granted(asked: Iterable[Scope], held: Iterable[Scope]) -> frozenset[Scope]:
    """What was asked for, as far as it is held."""
    held = frozenset(held)
    return frozenset(scope for scope in asked if covers(held, scope))


def _bytes(secret: str | None) -> bytes | None:
    return None if secret is None else secret.encode("utf-8", "surrogatepass")


def _admitted(
    asked: ConnectRequest,
    principal: Principal,
    scopes: frozenset[Scope],
    device_id: str | None = None,
    minted: MintedToken | None = None,
) -> Admitted:
    return Admitted(
        principal=Principal(principal.id, scopes, principal.method, principal.address),
        role=asked.role.value,
        protocol=asked.protocol,
        params=asked.params,
        device_id=device_id,
        minted=minted,
        method=str(principal.method),
        auth=None if principal.method == DEVICE_TOKEN else asked.settings,
    )
