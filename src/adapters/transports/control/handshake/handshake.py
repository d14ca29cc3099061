"""Reads the first request of a connection, and decides whether and with which scopes it is
admitted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic import ValidationError

from .....domain.access import SHARED_SECRET, Credential, DeviceCredential, Principal, Scope, covers
from .....domain.access.devices import (
    DEVICES,
    Claim,
    DeviceInfo,
    MintedToken,
    Proof,
    Role,
    TokenRefused,
    Visitor,
)
from .....domain.errors import GatewayError
from .....domain.services import Devices, Gateway
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
from . import rejections
from .origins import Peer, check_origin, is_at_this_machine


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A well-formed `connect` request."""

    peer: Peer
    params: ConnectParams
    auth: ConnectAuth
    role: Role
    protocol: int
    settings: AuthSettings

    @property
    def scopes(self) -> frozenset[Scope]:
        """The requested scopes, without unknown names; none for a node."""
        if self.role is not Role.OPERATOR:
            return frozenset()
        return frozenset(scope for scope in Scope if scope.value in (self.params.scopes or ()))

    @property
    def secret(self) -> str | None:
        """The token or password that may be the Gateway's secret."""
        token, password = self.auth.token or None, self.auth.password or None
        if self.settings.mode is AuthMode.PASSWORD:
            return password or token
        return token or password

    def unauthorized(self) -> ConnectRejection:
        """The rejection of credentials that prove nothing."""
        return rejections.unauthorized(self.params, self.secret, self.settings)

    @property
    def claim(self) -> Claim:
        """The fields that a device signs, as they were sent, without the password."""
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
        """The client's description of its device."""
        client = self.params.client
        return DeviceInfo(
            display_name=client.display_name or "",
            platform=client.platform,
            device_family=client.device_family or "",
            client_id=client.id,
            client_mode=client.mode,
            address=self.peer.address.address,
        )


def read(frame: RequestFrame, peer: Peer, settings: Settings) -> ConnectRequest:
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
        raise rejections.protocol_mismatch(params)
    if params.role not in (None, *Role):
        raise ConnectRejection("invalid role")
    if peer.origin is not None or rejections.is_web_page(params.client):
        check_origin(peer, settings)
    role = Role(params.role or Role.OPERATOR)
    return ConnectRequest(peer, params, params.auth or ConnectAuth(), role, protocol, settings.auth)


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admitted client."""

    principal: Principal
    role: str
    protocol: int
    params: ConnectParams
    device_id: str | None
    minted: MintedToken | None


class Handshake:
    """Answers `connect`."""

    def __init__(self, gateway: Gateway, devices: Devices) -> None:
        self._gateway = gateway
        self._devices = devices

    async def admit(self, frame: RequestFrame, peer: Peer) -> Admitted:
        """The client that the first request of a connection admits. Raises ConnectRejection."""
        request = read(frame, peer, self._gateway.settings)
        try:
            device = request.params.device
            if device is None:
                return await self._without_device(request)
            return await self._with_device(request, device)
        except TokenRefused:
            raise request.unauthorized() from None
        except GatewayError as error:
            raise rejections.rejection_of(error, request.protocol) from None

    async def _without_device(self, request: ConnectRequest) -> Admitted:
        """A client without a device is admitted by the Gateway's secret, which grants every scope,
        or by a plugin's grant."""
        client = request.params.client
        if rejections.is_control_ui(client):
            raise rejections.device_required(client)
        access, secret = self._gateway.access, request.secret
        nothing = secret is None and request.settings.mode is not AuthMode.NONE
        if nothing and not access.has_plugins:
            raise rejections.device_required(client)
        principal = await access.recognise(_credential(request, secret))
        if principal is None and nothing:
            raise rejections.device_required(client)
        if principal is None:
            await access.count_failure(request.peer.address, _bytes(secret))
            raise request.unauthorized()
        return _admitted(request, principal)

    async def _with_device(self, request: ConnectRequest, device: DeviceProof) -> Admitted:
        proof = Proof(
            device.id, device.public_key, device.signature, device.signed_at, device.nonce
        )
        key = self._devices.check_proof(proof, request.claim, request.peer.nonce)
        visitor = Visitor(device.id, key, request.role, request.scopes, request.info)
        principal, token = await self._recognise(request, visitor)
        issuer = principal.grants[0].issuer
        if issuer not in (SHARED_SECRET, DEVICES):
            # A plugin's grant does not pair a device.
            return _admitted(request, principal)
        silent = issuer == SHARED_SECRET and is_at_this_machine(request.peer)
        entry = await self._devices.enter(visitor, token=token, silent=silent)
        grant = self._devices.grant(visitor.device_id, visitor.role)
        if grant is None:  # Revoked in the meantime.
            raise request.unauthorized()
        acting = replace(
            principal,
            id=grant.principal,
            scopes=granted(entry.scopes, grant.scopes),
            agents=grant.agents,
            grants=(grant, *principal.grants) if token is None else (grant,),
        )
        return _admitted(request, acting, visitor.device_id, entry.minted)

    async def _recognise(
        self, request: ConnectRequest, visitor: Visitor
    ) -> tuple[Principal, str | None]:
        """The Principal, and the device's own token where that proved it.

        If the token suffices, no secret is tried: the holder of a token must not be able to guess
        the secret. If both were tried, a wrong secret counts towards the lockout all the same.
        """
        access, address = self._gateway.access, request.peer.address
        explicit = request.auth.device_token or None
        enough = explicit is not None and self._devices.suffices(visitor, explicit)
        secret = None if enough else request.secret
        token = explicit or request.auth.token or None
        tried = [text for text in dict.fromkeys((secret, token)) if text is not None]
        if not tried and request.settings.mode is not AuthMode.NONE and not access.has_plugins:
            raise request.unauthorized()
        device = DeviceCredential(visitor.device_id, visitor.role, token, suffices=enough)
        principal = await access.recognise(_credential(request, secret, device))
        by_token = principal is not None and principal.grants[0].issuer == DEVICES
        if (principal is None and tried) or (by_token and secret not in (None, token)):
            await access.count_failure(address, *map(_bytes, tried))
        if principal is None:
            raise request.unauthorized()
        return principal, token if by_token else None


def granted(requested: Iterable[Scope], held: Iterable[Scope]) -> frozenset[Scope]:
    """The requested scopes that are held."""
    held = frozenset(held)
    return frozenset(scope for scope in requested if covers(held, scope))


def _bytes(secret: str | None) -> bytes | None:
    return None if secret is None else secret.encode("utf-8", "surrogatepass")


def _credential(
    request: ConnectRequest, secret: str | None, device: DeviceCredential | None = None
) -> Credential:
    return Credential(request.peer.address, _bytes(secret), request.peer.headers, device)


def _admitted(
    request: ConnectRequest,
    principal: Principal,
    device_id: str | None = None,
    minted: MintedToken | None = None,
) -> Admitted:
    return Admitted(
        principal=replace(principal, scopes=granted(request.scopes, principal.scopes)),
        role=request.role.value,
        protocol=request.protocol,
        params=request.params,
        device_id=device_id,
        minted=minted,
    )
