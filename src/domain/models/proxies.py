"""The proxy of a provider, according to the usual environment variables."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

SUPPORTED = ("http", "https")
_PORTS = {"http": 80, "https": 443}
Address = IPv4Address | IPv6Address


def read_proxy(text: str) -> SplitResult:
    """Parse the URL of a proxy; `host:port` means `http`. Raises ValueError with a clause that does
    not quote the text, because it may contain a password."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        usable = bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if usable and url.scheme.startswith("socks"):
        raise ValueError("is a SOCKS proxy, which is not supported; use an http:// or https:// one")
    if not usable or url.scheme not in SUPPORTED or not text.isprintable() or " " in text:
        raise ValueError("is not the http:// or https:// URL of a proxy")
    return url


def proxy_from_environment(url: str, env: Mapping[str, str]) -> str | None:
    """The proxy for a URL: HTTPS_PROXY or HTTP_PROXY by its scheme, else ALL_PROXY.

    None if no proxy is set, for the hosts in NO_PROXY, and for this machine. As in curl, lower-case
    names take precedence over upper-case ones, and an empty value counts as unset.
    """
    try:
        target = urlsplit(url)
        host, port = (target.hostname or "").rstrip("."), target.port
    except ValueError:
        return None
    if not host or target.scheme not in _PORTS or is_this_machine(host):
        return None
    if _is_exempt(host, port or _PORTS[target.scheme], _variable(env, "no_proxy")):
        return None
    return _variable(env, f"{target.scheme}_proxy") or _variable(env, "all_proxy") or None


def is_this_machine(host: str) -> bool:
    """Whether a host name or address belongs to the loopback interface."""
    name = host.lower().rstrip(".")
    address = _address(name)
    if address is None:
        return name == "localhost" or name.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _variable(env: Mapping[str, str], name: str) -> str:
    return (env.get(name) or env.get(name.upper()) or "").strip()


def _address(host: str) -> Address | None:
    """The address in a host, including short forms such as `127.1`; None for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_exempt(host: str, port: int, exempt: str) -> bool:
    address = _address(host)
    entries = exempt.replace(",", " ").split()
    return any(_matches(entry.lower(), host, port, address) for entry in entries)


def _matches(entry: str, host: str, port: int, address: Address | None) -> bool:
    """An entry is `*`, an address, a network (`10.0.0.0/8`), or a domain and its subdomains, with
    or without a leading dot or `*.`; a port at its end restricts it to that port."""
    if entry == "*":
        return True
    if address is not None:
        try:
            return address in ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            pass  # An address with a port, or a name.
    name, separator, its_port = entry.rpartition(":")
    if separator and its_port.isdecimal():
        entry = name if int(its_port) == port else ""
    entry = entry.strip("[]")
    if address is not None:
        return _address(entry) == address
    entry = entry.removeprefix("*").strip(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))
