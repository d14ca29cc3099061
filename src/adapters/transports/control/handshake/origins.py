"""The peer of a connection, and which web pages may connect, under which names.

The Host is checked because the page of a stranger can have its name resolve to this machine; the
Origin, because a browser connects to this machine for any page, without a credential of the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .....domain.access import ClientAddress
from .....domain.settings import AuthMode, Settings
from ...http.hosts import is_our_page, is_ours, named, origin_of
from ..protocol import ConnectRejection


@dataclass(frozen=True, slots=True)
class Peer:
    """`host` and `origin` are from the headers of the upgrade; a program that is no browser sends
    no Origin. `nonce`: what the client has to sign."""

    address: ClientAddress
    host: str
    origin: str | None
    nonce: str
    headers: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    """All headers of the upgrade, names in lower case."""


def check_upgrade(peer: Peer, settings: Settings) -> None:
    """Raise ConnectRejection for an upgrade request with a wrong Host or Origin."""
    _check_host(peer, settings)
    if peer.origin is not None:
        check_origin(peer, settings)


def check_origin(peer: Peer, settings: Settings) -> None:
    """Raise ConnectRejection unless the page may connect. Without an Origin it is no web page."""
    if not _may(peer, settings):
        raise ConnectRejection(
            "origin not allowed (open the Control UI from the gateway host or allow it in "
            "gateway.controlUi.allowedOrigins)",
            details={"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED"},
        )


def is_at_this_machine(peer: Peer) -> bool:
    """Whether the client is on this machine, and reached it by a name that only it goes by."""
    name = named(peer.host)
    return peer.address.is_local and name is not None and name.is_loopback


def _check_host(peer: Peer, settings: Settings) -> None:
    name = named(peer.host)
    if name is None or not is_ours(name, peer.address, settings):
        raise ConnectRejection(
            "host not allowed (reach the Gateway by its IP address, or list the name in "
            "gateway.allowedHosts)",
            details={"code": "HOST_NOT_ALLOWED"},
        )


def _may(peer: Peer, settings: Settings) -> bool:
    origin = peer.origin or ""
    if is_our_page(origin, peer.host, settings.control.allowed_origins):
        return True
    if settings.auth.mode is AuthMode.NONE:
        return False  # Without a credential, a page of another local server is a stranger's.
    page, here = origin_of(origin), named(peer.host)
    return page is not None and here is not None and page.is_loopback and here.is_loopback
