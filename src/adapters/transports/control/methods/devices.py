"""`device.pair.*` and `device.token.*`: who is let in with a device of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .....domain.access import Scope
from .....domain.errors import InvalidRequest
from ..connection import Call, NoParams, Params
from ..handshake import millis, paired_row, pending_row
from ..protocol import Name
from .service import ControlService, answers


class RequestParams(Params):
    """A device's request to be let in."""

    request_id: Name


class ApproveParams(RequestParams):
    """`agents`: the ids of the only agents that the device may use; left out: those that it had, a
    new device all."""

    agents: Annotated[list[Name], Field(min_length=1, max_length=256)] | None = None


class DeviceParams(Params):
    """A device that is paired."""

    device_id: Name


class TokenParams(DeviceParams):
    """What the device holds in a role."""

    role: Name


class RotateParams(TokenParams):
    """`scopes`: what the new token is for, of what the device may; left out: all of it."""

    scopes: Annotated[list[Name], Field(max_length=64)] | None = None


class DeviceMethods(ControlService):
    @answers("device.pair.list", NoParams)
    async def _list(self, call: Call, params: NoParams) -> object:
        pending, paired = await self.dependencies.devices.list(call.principal)
        return {
            "pending": [pending_row(pairing) for pairing in pending],
            "paired": [paired_row(device) for device in paired],
        }

    @answers("device.pair.approve", ApproveParams)
    async def _approve(self, call: Call, params: ApproveParams) -> object:
        agents = None if params.agents is None else frozenset(map(str.lower, params.agents))
        device = await self.dependencies.devices.approve(call.principal, params.request_id, agents)
        return {"requestId": params.request_id, "device": paired_row(device)}

    @answers("device.pair.reject", RequestParams)
    async def _reject(self, call: Call, params: RequestParams) -> object:
        pairing = await self.dependencies.devices.reject(call.principal, params.request_id)
        return {"requestId": params.request_id, "deviceId": pairing.device_id}

    @answers("device.pair.remove", DeviceParams)
    async def _remove(self, call: Call, params: DeviceParams) -> object:
        device = await self.dependencies.devices.remove(call.principal, params.device_id)
        return {"deviceId": device.id}

    @answers("device.token.rotate", RotateParams)
    async def _rotate(self, call: Call, params: RotateParams) -> object:
        """The one answer that shows a token."""
        scopes = None if params.scopes is None else frozenset(map(_scope, params.scopes))
        minted = await self.dependencies.devices.rotate(
            call.principal, params.device_id, params.role, scopes
        )
        return {
            "deviceId": minted.device_id,
            "role": minted.role.value,
            "token": minted.token,
            "scopes": sorted(minted.scopes),
            "rotatedAtMs": millis(minted.issued_at),
        }

    @answers("device.token.revoke", TokenParams)
    async def _revoke(self, call: Call, params: TokenParams) -> object:
        token = await self.dependencies.devices.revoke(
            call.principal, params.device_id, params.role
        )
        return {
            "deviceId": params.device_id,
            "role": token.role.value,
            "revokedAtMs": millis(token.revoked_at or 0.0),
        }


def _scope(name: str) -> Scope:
    for scope in Scope:
        if scope.value == name:
            return scope
    raise InvalidRequest(f"unknown scope: {name}", param="scopes")
