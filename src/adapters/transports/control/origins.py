"""Which web pages may connect, and under which names: a browser goes where any page sends it.

The Host is looked at because a page of a stranger can have its name lead to this machine; the
Origin, because a browser connects to this machine for any page, and brings no proof of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from ....domain.addresses import ClientAddress
from ....domain.settings import Settings
from .caller import Caller
from .problems import Refusal

_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://(?:{_HOST.pattern})", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_TAILNET = ".ts.net"


@dataclass(frozen=True, slots=True)
class _Name:
    """A host as a header names it: in lower case, without brackets."""

    host: str
    port: int | None

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_loopback(self) -> bool:
        address = self.address
        return self.host == "localhost" if address is None else address.is_loopback


def check_upgrade(caller: Caller, settings: Settings) -> None:
    """Raises Refusal for a connection that no client of ours would make, before it is one."""
    _check_host(caller, settings)
    if caller.origin is not None:
        check_origin(caller, settings)


def check_origin(caller: Caller, settings: Settings) -> None:
    """Raises Refusal unless the web page may connect; a caller without an Origin is none."""
    if not _may(caller.origin or "", caller.host, settings.control.allowed_origins):
        raise Refusal(
            "origin not allowed (open the Control UI from the gateway host or allow it in "
            "gateway.controlUi.allowedOrigins)",
            details={"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED"},
        )


def is_at_this_machine(caller: Caller) -> bool:
    """Whether the client is on this machine, and reached it by a name that only it goes by."""
    name = _named(caller.host)
    return caller.address.is_local and name is not None and name.is_loopback


def _check_host(caller: Caller, settings: Settings) -> None:
    name = _named(caller.host)
    if name is None or not _is_ours(name, caller.address, settings):
        raise Refusal(
            "host not allowed (reach the Gateway by its IP address, or list the name in "
            "gateway.allowedHosts)",
            details={"code": "HOST_NOT_ALLOWED"},
        )


def _is_ours(name: _Name, client: ClientAddress, settings: Settings) -> bool:
    if name.is_loopback or name.host.endswith(_TAILNET):
        return client.is_loopback or _is_listed(name, settings)
    return name.address is not None or _is_listed(name, settings)


def _is_listed(name: _Name, settings: Settings) -> bool:
    control = settings.control
    origins = (_origin(text) for text in control.allowed_origins)
    listed = {found.host for found in origins if found is not None}
    return name.host in listed.union(control.allowed_hosts, settings.listen.hosts)


def _may(origin: str, host: str, allowed: Iterable[str]) -> bool:
    if origin.lower() in allowed:
        return True
    page, here = _origin(origin), _named(host)
    if page is None or here is None:
        return False
    if page.is_loopback and here.is_loopback:
        return True
    scheme = origin.partition(":")[0].lower()
    default = _PORTS.get(scheme)
    if default is None:
        return False
    return page.host == here.host and (page.port or default) == (here.port or default)


def _origin(text: str) -> _Name | None:
    found = _ORIGIN.fullmatch(text)
    return None if found is None else _name(found[2], found[3])


def _named(text: str) -> _Name | None:
    found = _HOST.fullmatch(text)
    return None if found is None else _name(found[1], found[2])


def _name(host: str, port: str | None) -> _Name:
    return _Name(host.strip("[]").lower().rstrip("."), None if port is None else int(port))
