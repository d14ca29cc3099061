"""Builds the listen, endpoint and proxy settings from `gateway.*`."""

from __future__ import annotations

import ipaddress
import os
import re
from ipaddress import IPv4Network, IPv6Network
from typing import get_args

from ....domain.settings import (
    ControlSettings,
    ListenSettings,
    TlsSettings,
)
from ..errors import listing
from ..locations import first_set
from ..read import Building
from ..schema.gateway import Bind

_NETWORKS = IPv4Network | IPv6Network
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_LOOPBACK = ("127.0.0.1", "::1")
_EVERYWHERE = ("0.0.0.0",)  # noqa: S104 - for `bind: "lan"` and refused without a secret
_MAX_PORT = 65_535
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")
_ORIGIN = re.compile(
    "(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*+://(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?"
)


def build_listen(building: Building) -> ListenSettings:
    """Addresses, port and TLS; errors are reported."""
    http2 = building.config.gateway.http2
    return ListenSettings(_hosts(building), _port(building), _tls(building), http2)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    return ipaddress.ip_address(host).is_loopback


def build_control(building: Building) -> ControlSettings:
    """Allowed origins and host names; invalid ones are reported."""
    gateway = building.config.gateway
    origins, hosts = gateway.control_ui.allowed_origins, gateway.allowed_hosts
    for i, text in enumerate(origins):
        if not _ORIGIN.fullmatch(text):
            message = "must be an origin: scheme://host or scheme://host:port, without a path"
            building.report(message, "gateway", "controlUi", "allowedOrigins", i)
    for i, text in enumerate(hosts):
        if not _HOST.fullmatch(text):
            message = "must be a host name, without scheme and port"
            building.report(message, "gateway", "allowedHosts", i)
    return ControlSettings(
        tuple(origin.lower() for origin in origins),
        tuple(host.lower().rstrip(".") for host in hosts),
    )


def build_cors(building: Building) -> tuple[str, ...]:
    """The origins of pages that may send HTTP requests; invalid ones are reported."""
    gateway = building.config.gateway
    where = ("gateway", "http", "cors", "origins")
    for i, text in enumerate(gateway.http.cors.origins):
        if text == "*":
            if gateway.auth.mode == "none":
                message = "would let every web page in while gateway.auth.mode is `none`; list the "
                building.report(f"{message}origins that may", *where, i)
        elif not _ORIGIN.fullmatch(text):
            message = "must be an origin: scheme://host or scheme://host:port, without a path"
            building.report(message, *where, i)
    return tuple(origin.lower() for origin in gateway.http.cors.origins)


def build_proxies(building: Building) -> tuple[_NETWORKS, ...]:
    """The trusted proxies as networks; invalid and universal ones are reported."""
    networks: list[_NETWORKS] = []
    for i, text in enumerate(building.config.gateway.trusted_proxies):
        try:
            network = _network(text)
        except ValueError:
            network = None
        if network is None:
            message = "must be an IP address, or a network such as 10.0.0.0/8 (no host bits set)"
            building.report(message, "gateway", "trustedProxies", i)
        elif network.prefixlen == 0:
            message = "would trust every address; name the addresses or networks of your proxies"
            building.report(message, "gateway", "trustedProxies", i)
        else:
            networks.append(network)
    return tuple(networks)


def _network(text: str) -> _NETWORKS:
    if text.strip() in ("*", "0.0.0.0", "::"):  # noqa: S104 - refused, not listened on
        return IPv4Network("0.0.0.0/0")
    network = ipaddress.ip_network(text.strip())
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        address = network.network_address.ipv4_mapped
        return IPv4Network((int(address or 0), network.prefixlen - 96))
    return network


def _hosts(building: Building) -> tuple[str, ...]:
    gateway = building.config.gateway
    bind: str = gateway.bind
    option = building.inputs.overrides.bind
    if option is not None:
        if option not in get_args(Bind):
            building.problems.option("--bind", f"must be one of {listing(get_args(Bind))}")
            return _LOOPBACK
        bind = option
    if gateway.custom_bind_host is not None and bind != "custom":
        building.note("gateway.customBindHost has no effect unless gateway.bind is `custom`.")
    match bind:
        case "lan":
            return _EVERYWHERE
        case "custom":
            return _custom_host(building)
        case "tailnet":
            return _tailnet_host(building, option is not None)
        case _:
            return _LOOPBACK


def _custom_host(building: Building) -> tuple[str, ...]:
    where = ("gateway", "customBindHost")
    host = building.config.gateway.custom_bind_host
    if host is None:
        if not building.broken(*where):
            building.report("is required for bind `custom`: an IP address", *where)
        return _LOOPBACK
    try:
        return (str(ipaddress.ip_address(host.strip())),)
    except ValueError:
        building.report("must be an IP address", *where)
        return _LOOPBACK


def _tailnet_host(building: Building, by_option: bool) -> tuple[str, ...]:
    address = building.inputs.tailnet_address()
    if address is not None:
        return (address,)
    message = "this machine has no address in 100.64.0.0/10; is Tailscale running?"
    if by_option:
        building.problems.option("--bind", message)
    else:
        building.report(message, "gateway", "bind")
    return _LOOPBACK


def _port(building: Building) -> int:
    option = building.inputs.overrides.port
    if option is not None:
        if not 0 <= option <= _MAX_PORT:
            building.problems.option("--port", f"must be 0 (any free port) to {_MAX_PORT}")
        return option
    for name in ("OPENSOUL_GATEWAY_PORT", "OPENCLAW_GATEWAY_PORT"):
        text = first_set(building.env, name)
        if text is None:
            continue
        if text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= _MAX_PORT:
            return int(text)
        message = f"must be a port number, 0 (any free port) to {_MAX_PORT}"
        building.problems.variable(name, message)
        break
    return building.config.gateway.port


def _tls(building: Building) -> TlsSettings | None:
    tls = building.config.gateway.tls
    if not tls.enabled:
        return None
    files = {"certPath": tls.cert_path, "keyPath": tls.key_path, "caPath": tls.ca_path}
    for name, text in files.items():
        if building.broken("gateway", "tls", name):
            continue
        if text is None and name != "caPath":
            message = "is required if TLS is enabled; certificates are not generated"
            building.report(message, "gateway", "tls", name)
        elif text is not None and not os.path.isfile(building.path(text)):
            building.report(f"there is no file {building.path(text)}", "gateway", "tls", name)
    return TlsSettings(
        cert_path=building.path(tls.cert_path or ""),
        key_path=building.path(tls.key_path or ""),
        ca_path=None if tls.ca_path is None else building.path(tls.ca_path),
    )
