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
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"forwarded",
        b"tailscale-user-login",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-real-ip",
    }
)
_FORWARDED = b"x-forwarded-"
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
            name in _FORWARDING or name.startswith(_FORWARDED) for name in given
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
