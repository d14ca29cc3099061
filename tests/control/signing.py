"""Devices that connect over a real socket, and sign what this connection was given."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from opensoul.domain.access.devices.proofs import Claim
from tests.control.client import Peer, connect_params, knocking
from tests.fakes.devices import Device


def signed(
    device: Device,
    nonce: str | None,
    token: str | None,
    *,
    version: int = 3,
    late: float = 0.0,
    **changes: Any,
) -> dict[str, Any]:
    """The parameters of `connect` with the device's signature, which is `late` seconds old."""
    params = connect_params(token, **changes)
    client, auth = params["client"], params.get("auth", {})
    claim = Claim(
        client_id=client["id"],
        client_mode=client["mode"],
        role=params["role"],
        scopes=tuple(params["scopes"]),
        token=auth.get("token") or auth.get("deviceToken") or "",
        platform=client["platform"],
        device_family=client.get("deviceFamily", ""),
    )
    proof = device.proof(claim, nonce=nonce, at=time.time() - late, version=version)
    params["device"] = {
        "id": proof.device_id,
        "publicKey": proof.public_key,
        "signature": proof.signature,
        "signedAt": proof.signed_at,
    }
    if nonce is not None:
        params["device"]["nonce"] = nonce
    return params


async def challenged(peer: Peer) -> str:
    """The nonce of this connection."""
    nonce: str = (await peer.event("connect.challenge"))["payload"]["nonce"]
    return nonce


@asynccontextmanager
async def connected_device(
    http: aiohttp.ClientSession,
    device: Device,
    token: str | None,
    *,
    headers: dict[str, str] | None = None,
    **changes: Any,
) -> AsyncIterator[Peer]:
    """Connected, and let in with a device."""
    async with knocking(http, headers=headers) as peer:
        params = signed(device, await challenged(peer), token, **changes)
        peer.hello = await peer.call("connect", params)
        yield peer
