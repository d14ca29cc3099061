"""How a request reaches a provider through a proxy, and what a proxy's refusal means."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from ....domain.models import read_proxy

_HEADER = "Proxy-Authorization"


@dataclass(frozen=True, slots=True)
class Proxy:
    """`url` holds no credentials; `headers` hold them, for the proxy alone."""

    url: str
    headers: dict[str, str]

    @staticmethod
    def read(text: str) -> Proxy:
        """Raises ValueError with a clause, as `read_proxy`."""
        url = read_proxy(text)
        host = url.netloc.rpartition("@")[2]
        headers = {}
        if url.username is not None:
            credentials = f"{unquote(url.username)}:{unquote(url.password or '')}"
            headers[_HEADER] = "Basic " + b64encode(credentials.encode()).decode()
        return Proxy(urlunsplit((url.scheme, host, "", "", "")), headers)

    def tunnels_to(self, address: str) -> bool:
        """Whether the proxy sees only where the request goes: so for https."""
        return urlsplit(address).scheme == "https"


def refusal(status: int) -> str:
    """A clause for a proxy that opened no tunnel, and said so with that status."""
    if status == 407:
        return "its proxy does not accept the user name and password for it (status 407)"
    return f"its proxy refused the connection (status {status})"
