"""Who is at the other end of a connection that has not said anything yet."""

from __future__ import annotations

from dataclasses import dataclass

from .....domain.access import ClientAddress


@dataclass(frozen=True, slots=True)
class Peer:
    """`host` and `origin` are the headers of the upgrade; a program that is no browser sends no
    Origin. `nonce`: what this connection was told to sign. `secure`: it came over TLS."""

    address: ClientAddress
    host: str
    origin: str | None
    nonce: str
    secure: bool
