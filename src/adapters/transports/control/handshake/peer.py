"""The peer of a connection, as known from its upgrade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .....domain.access import ClientAddress


@dataclass(frozen=True, slots=True)
class Peer:
    """`host` and `origin` are from the headers of the upgrade; a program that is no browser sends
    no Origin. `nonce`: what the client has to sign. `secure`: the connection uses TLS."""

    address: ClientAddress
    host: str
    origin: str | None
    nonce: str
    secure: bool
    headers: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    """All headers of the upgrade, names in lower case."""
