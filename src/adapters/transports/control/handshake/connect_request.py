"""What `connect` asks for, once it is known to be well-formed."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from .....domain.access import Scope
from .....domain.access.devices import Claim, DeviceInfo, Proof, Role
from .....domain.settings import AuthMode, AuthSettings, Settings
from ..protocol import (
    NEWEST_PROTOCOL,
    OLDEST_PROTOCOL,
    ConnectAuth,
    ConnectParams,
    ConnectRejection,
    DeviceProof,
    RequestFrame,
    validation_text,
)
from . import connect_refusals as refusals
from .origins import check_origin
from .peer import Peer


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A well-formed request to be let in."""

    caller: Peer
    params: ConnectParams
    auth: ConnectAuth
    role: Role
    protocol: int
    settings: AuthSettings

    @property
    def scopes(self) -> frozenset[Scope]:
        """The scopes asked for; names that mean nothing here, and those of a node, are none."""
        if self.role is not Role.OPERATOR:
            return frozenset()
        return frozenset(scope for scope in Scope if scope.value in (self.params.scopes or ()))

    @property
    def secret(self) -> str | None:
        """What may be the Gateway's secret, in whichever of the two fields."""
        token, password = self.auth.token or None, self.auth.password or None
        if self.settings.mode is AuthMode.PASSWORD:
            return password or token
        return token or password

    def refused(self) -> ConnectRejection:
        """Nothing that was brought proves anything."""
        auth = self.auth
        tried = refusals.Tried(
            client=self.params.client,
            has_device=self.params.device is not None,
            token=bool(auth.token),
            secret=self.secret is not None,
            device_token=bool(auth.device_token),
            bootstrap_token=bool(auth.bootstrap_token),
        )
        return refusals.unauthorized(tried, self.settings)

    @property
    def claim(self) -> Claim:
        """What a device signs of it: all as it was written, and never the password."""
        client, auth = self.params.client, self.auth
        return Claim(
            client_id=client.id,
            client_mode=client.mode,
            role=self.role.value,
            scopes=tuple(self.params.scopes or ()),
            token=auth.token or auth.device_token or auth.bootstrap_token or "",
            platform=client.platform,
            device_family=client.device_family or "",
        )

    @property
    def info(self) -> DeviceInfo:
        """What the client says of itself."""
        client = self.params.client
        return DeviceInfo(
            display_name=client.display_name or "",
            platform=client.platform,
            device_family=client.device_family or "",
            client_id=client.id,
            client_mode=client.mode,
            address=self.caller.address.address,
        )


def read(frame: RequestFrame, caller: Peer, settings: Settings) -> ConnectRequest:
    """Read the first request of a connection. Raises ConnectRejection for an invalid request, and
    for one of a web page that is not allowed."""
    if frame.method != "connect":
        raise ConnectRejection("invalid handshake: first request must be connect")
    try:
        params = ConnectParams.model_validate(frame.params)
    except ValidationError as error:
        raise ConnectRejection(f"invalid connect params: {validation_text(error)}") from None
    protocol = min(NEWEST_PROTOCOL, params.max_protocol)
    if protocol < max(OLDEST_PROTOCOL, params.min_protocol):
        raise refusals.protocol_mismatch(params)
    if params.role not in (None, *Role):
        raise ConnectRejection("invalid role")
    if caller.origin is not None or refusals.is_web_page(params.client):
        check_origin(caller, settings)
    role = Role(params.role or Role.OPERATOR)
    return ConnectRequest(
        caller, params, params.auth or ConnectAuth(), role, protocol, settings.auth
    )


def proof_of(device: DeviceProof) -> Proof:
    """What a device sent to prove itself."""
    return Proof(device.id, device.public_key, device.signature, device.signed_at, device.nonce)
