"""Addresses of Gateways: parsing and comparing."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

from ..common.refused import CommandError

_SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}


def websocket_url(text: str) -> str:
    """The address of the WebSocket. Raises CommandError for what is none."""
    try:
        parts = urlsplit(text if "://" in text else f"ws://{text}")
        is_address = bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:  # A port that is none, a bracket that is not closed.
        is_address = False
    if not is_address or parts.scheme not in _SCHEMES:
        # Not repeated: a password may stand in it.
        raise CommandError(
            "Invalid --url. Expected something like ws://127.0.0.1:18789", code="usage"
        )
    scheme = _SCHEMES[parts.scheme]
    return urlunsplit((scheme, parts.netloc, parts.path or "/", parts.query, ""))


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "wss" else 80)


def is_loopback(host: str) -> bool:
    """Whether an address means this machine, whoever asks."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_same(own: str, url: str) -> bool:
    """Whether an address is that of one's own Gateway, by whichever name of this machine."""
    hosts = [urlsplit(one).hostname or "" for one in (own, url)]
    return _port(own) == _port(url) and (hosts[0] == hosts[1] or all(map(is_loopback, hosts)))
