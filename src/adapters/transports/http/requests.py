"""What a request's head says: who sent it, from where, with which credential and identifiers.

Headers are read as the bytes that came: decoding them as latin-1, as frameworks do, would change
every secret and every session key that is not ASCII.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ....domain.addresses import ClientAddress, Network, client_address
from ....domain.auth import Credential
from ....domain.errors import InvalidRequest

RawHeaders = Iterable[tuple[bytes, bytes]]

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


def header(headers: RawHeaders, name: bytes) -> bytes | None:
    """The first value of a header. `name` is in lower case, as ASGI has it."""
    return next((value for key, value in headers if key == name), None)


def text_header(headers: RawHeaders, *names: str) -> str | None:
    """The value of the first of `names` that is there, read as UTF-8. Raises InvalidRequest."""
    for name in names:
        value = header(headers, name.encode())
        if value is not None:
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                raise InvalidRequest(f"The header {name} is not UTF-8.", param=name) from None
    return None


def client_of(scope: Mapping[str, Any], trusted: Sequence[Network]) -> ClientAddress:
    """Where the request of an ASGI scope comes from; `trusted` are the proxies to believe."""
    headers: list[tuple[bytes, bytes]] = list(scope["headers"])
    client = scope.get("client")
    real_ip = header(headers, b"x-real-ip")
    return client_address(
        client[0] if client else None,
        forwarded_for=[
            value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"
        ],
        real_ip=None if real_ip is None else real_ip.decode("latin-1"),
        forwarding_headers=any(_tells_of_a_proxy(name) for name, _ in headers),
        trusted=trusted,
    )


def _tells_of_a_proxy(name: bytes) -> bool:
    return name in _FORWARDING or name.startswith(_FORWARDED)


def credential_of(headers: RawHeaders, client: ClientAddress) -> Credential:
    """What the client brought as `Authorization: Bearer <secret>` (RFC 6750, section 2.1)."""
    scheme, _, secret = (header(headers, b"authorization") or b"").strip().partition(b" ")
    if scheme.lower() != _BEARER or not secret.strip():
        return Credential(client)
    return Credential(client, secret.strip())


def request_id_of(headers: RawHeaders) -> str:
    """The client's `x-request-id` where it is short and plain, else a new one."""
    given = header(headers, b"x-request-id")
    if given is not None and _SANE_ID.fullmatch(given):
        return given.decode("ascii")
    return f"req_{uuid.uuid4().hex}"
