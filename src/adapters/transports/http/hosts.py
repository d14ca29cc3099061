"""The names that the Gateway is reached by, and the web pages that may send requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from ....domain.access import ClientAddress
from ....domain.errors import NotLocal
from ....domain.settings import Settings
from .cors import EVERY_ORIGIN
from .errors import HttpRejection, Problem
from .requests import Headers

_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(rf"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*+)://(?:{_HOST.pattern})", re.IGNORECASE)
_TAILNET = ".ts.net"
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Name:
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


def is_ours(name: Name, client: ClientAddress, settings: Settings) -> bool:
    """Whether the client may reach the Gateway by that name."""
    if name.is_loopback or name.host.endswith(_TAILNET):
        return client.is_loopback or _is_listed(name, settings)
    return name.address is not None or _is_listed(name, settings)


def _is_listed(name: Name, settings: Settings) -> bool:
    control = settings.control
    origins = (origin_of(text) for text in control.allowed_origins)
    listed = {found.host for found in origins if found is not None}
    return name.host in listed.union(control.allowed_hosts, settings.listen.hosts)


def is_our_page(origin: str, host: str, allowed: Iterable[str]) -> bool:
    """Whether the page of an origin is listed, or served by the `host` that the request names."""
    if origin.lower() in allowed:
        return True
    page, here = origin_of(origin), named(host)
    default = _PORTS.get(origin.partition(":")[0].lower())
    if page is None or here is None or default is None:
        return False
    return page.host == here.host and (page.port or default) == (here.port or default)


def origin_of_url(url: str) -> str:
    """The origin of a page's address; the text as it is where it is no such address."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + re.split("[/?#]", rest, maxsplit=1)[0]


def origin_of(text: str) -> Name | None:
    """The host of an origin; None where the text is no origin."""
    found = _ORIGIN.fullmatch(text)
    return None if found is None else _name(found[2], found[3])


def named(text: str) -> Name | None:
    """The host of a Host header; None where the text is no host."""
    found = _HOST.fullmatch(text)
    return None if found is None else _name(found[1], found[2])


def _name(host: str, port: str | None) -> Name:
    return Name(host.strip("[]").lower().rstrip("."), None if port is None else int(port))


_FOREIGN_SITES = (b"cross-site", b"same-site")
"""Values of Sec-Fetch-Site; another port of the same host is the same site:
https://www.w3.org/TR/fetch-metadata/"""
_MODE_NONE = "Without authentication (gateway.auth.mode `none`)"
_SHOWN = 100


def check_page(headers: Headers, client: ClientAddress, settings: Settings) -> None:
    """Raises NotLocal for a request of a web page that is neither the Gateway's own nor listed,
    and for one under a name that is not the Gateway's."""
    host = headers.get(b"host", b"").decode("latin-1")
    name = named(host)
    if host and (name is None or not is_ours(name, client, settings)):
        raise NotLocal(
            f"{_MODE_NONE} the host {host[:_SHOWN]!r} is not served: reach the Gateway by its IP "
            "address or as localhost, or list the name in gateway.allowedHosts."
        )
    page = _page_of(headers)
    listed = (*settings.control.allowed_origins, *settings.cors_origins)
    if page is not None and not is_our_page(page, host, listed):
        raise NotLocal(
            f"{_MODE_NONE} the web page {page[:_SHOWN]!r} is not served: list its origin in "
            "gateway.controlUi.allowedOrigins or gateway.http.cors.origins, or set "
            "gateway.auth.mode to `token`."
        )


def check_origin(headers: Headers, settings: Settings) -> None:
    """Raises HttpRejection for a request of a web page that is neither the Gateway's own nor
    listed, whatever credential it has. Origins that are not of the web, as of editors, pass."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin.lower().startswith(("http:", "https:", "null")):
        return
    host = headers.get(b"host", b"").decode("latin-1")
    listed = (*settings.control.allowed_origins, *settings.cors_origins)
    if EVERY_ORIGIN not in listed and not is_our_page(origin, host, listed):
        message = (
            f"The web page {origin[:_SHOWN]!r} is not served here: list its origin in "
            "gateway.http.cors.origins or gateway.controlUi.allowedOrigins."
        )
        raise HttpRejection(Problem(403, message, "origin_not_allowed"))


def _page_of(headers: Headers) -> str | None:
    """The origin of the page that sent a request; None where no page did."""
    origin = headers.get(b"origin")
    if origin is not None:
        return origin.decode("latin-1")
    referer = headers.get(b"referer")
    if referer is not None:
        return origin_of_url(referer.decode("latin-1"))
    site = headers.get(b"sec-fetch-site", b"").strip().lower()
    return f"of another site ({site.decode()})" if site in _FOREIGN_SITES else None
