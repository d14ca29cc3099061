"""What a request's head says: who sent it, from where, with which credential and identifiers.

Headers are read as the bytes that came: decoding them as latin-1, as frameworks do, would change
every secret and every session key that is not ASCII.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ....domain.addresses import ClientAddress, Network, client_address
from ....domain.auth import Credential
from ....domain.errors import InvalidRequest

Given = Mapping[bytes, bytes]
"""The headers of a request by their names, in lower case as ASGI has them."""

_BEARER = b"bearer"
_FORWARDING = frozenset(
    {
        b"cdn-loop",
        b"client-ip",
        b"do-connecting-ip",
        b"forwarded",
        b"forwarded-for",
        b"proxy-client-ip",
        b"remote-user",
        b"true-client-ip",
        b"via",
        b"wl-proxy-client-ip",
        b"x-appengine-user-ip",
        b"x-azure-clientip",
        b"x-azure-socketip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-envoy-external-address",
        b"x-forwarded",
        b"x-nf-client-connection-ip",
        b"x-originating-ip",
        b"x-proxyuser-ip",
        b"x-real-ip",
        b"x-remote-addr",
        b"x-remote-ip",
        b"x-remote-user",
    }
)
"""Headers that proxies add to what they pass on, and that no client sends by itself."""
_FORWARDING_PREFIXES = (
    b"cf-",  # Cloudflare, its tunnels included
    b"fastly-",
    b"fly-",
    b"tailscale-",
    b"x-auth-request-",  # oauth2-proxy
    b"x-forwarded-",
    b"x-goog-iap-",
    b"x-ms-client-principal",
    b"x-original-",
    b"x-vercel-",
)
_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def given_in(headers: Iterable[tuple[bytes, bytes]]) -> Given:
    """The first value of each header of an ASGI scope."""
    return dict(reversed(tuple(headers)))


def text_header(given: Given, *names: str) -> str | None:
    """The value of the first of `names` that is there, read as UTF-8. Raises InvalidRequest."""
    for name in names:
        value = given.get(name.encode())
        if value is not None:
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                raise InvalidRequest(f"The header {name} is not UTF-8.", param=name) from None
    return None


def client_of(scope: Mapping[str, Any], given: Given, trusted: Sequence[Network]) -> ClientAddress:
    """Where the request of an ASGI scope comes from; `trusted` are the proxies to believe."""
    client = scope.get("client")
    peer = client[0] if client else None
    real_ip = given.get(b"x-real-ip")
    return client_address(
        peer,
        forwarded_for=[
            value.decode("latin-1")
            for name, value in scope["headers"]
            if name == b"x-forwarded-for"
        ],
        real_ip=None if real_ip is None else real_ip.decode("latin-1"),
        forwarding_headers=any(
            name in _FORWARDING or name.startswith(_FORWARDING_PREFIXES) for name in given
        ),
        trusted=trusted,
    )


def credential_of(given: Given, client: ClientAddress) -> Credential:
    """What the client brought as `Authorization: Bearer <secret>` (RFC 6750, section 2.1)."""
    scheme, _, secret = given.get(b"authorization", b"").strip().partition(b" ")
    if scheme.lower() != _BEARER or not secret.strip():
        return Credential(client)
    return Credential(client, secret.strip())


def request_id_of(given: Given) -> str:
    """The client's `x-request-id` where it is short and plain, else a new one."""
    theirs = given.get(b"x-request-id")
    if theirs is not None and _SANE_ID.fullmatch(theirs):
        return theirs.decode("ascii")
    return f"req_{secrets.token_hex(16)}"
