"""Which web pages may send requests where no credential is needed.

A browser sends requests to this machine for any page it shows: the Origin, or else the Referer or
the Sec-Fetch-Site header, shows which. A page can also have its own name lead to this machine,
which the Host shows. Programs that are no browser send none of the three but the Host.
"""

from __future__ import annotations

from ....domain.access import ClientAddress
from ....domain.errors import NotLocal
from ....domain.settings import Settings
from .hosts import is_our_page, is_ours, named, origin_of_url
from .requests import Headers

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
    if page is not None and not is_our_page(page, host, settings.control.allowed_origins):
        raise NotLocal(
            f"{_MODE_NONE} the web page {page[:_SHOWN]!r} is not served: list its origin in "
            "gateway.controlUi.allowedOrigins, or set gateway.auth.mode to `token`."
        )


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
