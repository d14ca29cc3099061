"""What a request's head says: who sent it, from where, with which credential and identifiers.

Headers are read as the bytes that came: decoding them as latin-1, as frameworks do, would change
every secret and every session key that is not ASCII.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, MutableMapping, Sequence, Set
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import unquote

from ....domain.access import (
    ClientAddress,
    Credential,
    Network,
    Principal,
    Scope,
    client_address,
    covers,
)
from ....domain.errors import InvalidRequest
from .errors import Problem

Headers = Mapping[bytes, bytes]
"""The headers of a request by their names, in lower case as ASGI has them."""

_BEARER = b"bearer"
_OURS, _ALIAS = "x-opensoul-", "x-openclaw-"
_FAMILY = (_OURS.encode(), _ALIAS.encode())
_SCOPES = tuple(prefix + b"scopes" for prefix in _FAMILY)
_FORWARDING_NAMES = b"""
cdn-loop client-ip do-connecting-ip forwarded forwarded-for proxy-client-ip remote-user
true-client-ip via wl-proxy-client-ip x-appengine-user-ip x-azure-clientip x-azure-socketip
x-client-ip x-cluster-client-ip x-envoy-external-address x-forwarded x-nf-client-connection-ip
x-originating-ip x-proxyuser-ip x-real-ip x-remote-addr x-remote-ip x-remote-user
"""
_FORWARDING = frozenset(_FORWARDING_NAMES.split())
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


def headers_in(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The first value of each header of an ASGI scope."""
    return dict(reversed(tuple(headers)))


def family_header(headers: Headers, *names: str) -> str | None:
    """The value of the first of `names` that is there, read as UTF-8: of `x-opensoul-<name>`, or of
    `x-openclaw-<name>`, which means the same. Raises InvalidRequest, also where the two differ."""
    if headers.keys().isdisjoint(_spellings(names)):
        return None
    ours = _first_text(headers, _OURS, names)
    theirs = _first_text(headers, _ALIAS, names)
    if ours is not None and theirs is not None and ours[1].strip() != theirs[1].strip():
        message = f"The headers {ours[0]} and {theirs[0]} have different values; send one of them."
        raise InvalidRequest(message, param=theirs[0])
    found = ours or theirs
    return None if found is None else found[1]


def narrowed(principal: Principal, headers: Headers) -> Principal:
    """The principal with those of its scopes that the header `x-opensoul-scopes` names or covers;
    as it is without that header. Raises InvalidRequest."""
    if _SCOPES[0] not in headers and _SCOPES[1] not in headers:
        return principal
    words = re.split(r"[,\s]+", family_header(headers, "scopes") or "")
    named = {scope for scope in Scope if scope in words}
    scopes = frozenset(scope for scope in Scope if covers(named, scope) and principal.may(scope))
    return replace(principal, scopes=scopes)


def unread_headers(headers: Headers, known: Set[str]) -> list[str]:
    """The headers of the family that are not among the `known` names, and so have no effect."""
    names = [name.decode("latin-1") for name in headers if name.startswith(_FAMILY)]
    return sorted(name for name in names if name.split("-", 2)[2] not in known)


@lru_cache(maxsize=64)
def _spellings(names: tuple[str, ...]) -> frozenset[bytes]:
    return frozenset(prefix + name.encode() for prefix in _FAMILY for name in names)


def _first_text(headers: Headers, prefix: str, names: Sequence[str]) -> tuple[str, str] | None:
    """The name and the value of the first header that is there."""
    for name in names:
        header = prefix + name
        value = headers.get(header.encode())
        if value is not None:
            try:
                return header, value.decode("utf-8")
            except UnicodeDecodeError:
                raise InvalidRequest(f"The header {header} is not UTF-8.", param=header) from None
    return None


def client_of(
    scope: Mapping[str, Any], headers: Headers, trusted: Sequence[Network]
) -> ClientAddress:
    """Where the request of an ASGI scope comes from; `trusted` are the proxies to believe."""
    client = scope.get("client")
    peer = client[0] if client else None
    real_ip = headers.get(b"x-real-ip")
    return client_address(
        peer,
        forwarded_for=[
            value.decode("latin-1")
            for name, value in scope["headers"]
            if name == b"x-forwarded-for"
        ],
        real_ip=None if real_ip is None else real_ip.decode("latin-1"),
        forwarding_headers=not _FORWARDING.isdisjoint(headers)
        or any(name.startswith(_FORWARDING_PREFIXES) for name in headers),
        trusted=trusted,
    )


def added_by_proxies(header: bytes) -> bool:
    """Whether a header, in lower case, is one that proxies add to what they pass on."""
    return header in _FORWARDING or header.startswith(_FORWARDING_PREFIXES)


def credential_of(headers: Headers, client: ClientAddress) -> Credential:
    """The secret of `Authorization: Bearer <secret>` (RFC 6750, section 2.1), or else of
    `x-api-key`. Where both are sent the second is not looked at: one request is one guess."""
    scheme, _, secret = headers.get(b"authorization", b"").strip().partition(b" ")
    if scheme.lower() != _BEARER or not secret.strip():
        secret = headers.get(b"x-api-key", b"")
    return Credential(client, secret.strip() or None, headers)


def request_id_of(headers: Headers) -> str:
    """The client's `x-request-id` where it is short and plain, else a new one."""
    theirs = headers.get(b"x-request-id")
    if theirs is not None and _SANE_ID.fullmatch(theirs):
        return theirs.decode("ascii")
    return f"req_{secrets.token_hex(16)}"


_LONGEST_NAME = 253
"""Characters of a host name: https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4"""
_HOST = re.compile(
    rb"(?:\[([0-9A-Fa-f:.%A-Za-z]{2,80})\]|((?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63})\.?)"
    rb"(?::([0-9]{0,5}))?"
)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)
_SHOWN = 100
"""Characters of a malformed value that its refusal repeats."""


def check_head(scope: MutableMapping[str, Any]) -> Problem | None:
    """What is wrong with the target or the Host of an ASGI scope; None where nothing is.

    A target in absolute form that names the same host is written into the scope as a path
    (https://www.rfc-editor.org/rfc/rfc9112#section-3.2).
    """
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1:
        return _problem("Several Host headers were sent; send one.")
    host = hosts[0].strip() if hosts else b""
    if host and not _is_host(host):
        return _problem(
            f"The Host header {_shown(host)} is not a host name or an IP address (an IPv6 address "
            "in brackets), with or without a port up to 65535."
        )
    raw = scope.get("raw_path")
    if raw is None or raw.startswith(b"/"):
        return None
    return _use_path_of_absolute(scope, raw, host)


def _use_path_of_absolute(
    scope: MutableMapping[str, Any], raw: bytes, host: bytes
) -> Problem | None:
    absolute = _ABSOLUTE.fullmatch(raw)
    if absolute is None:
        return _problem(
            f"The request target {_shown(raw)} is not a path; a path begins with a slash."
        )
    if absolute[1].lower() != host.lower():
        return _problem(
            f"The request target names the host {_shown(absolute[1])} and the Host header "
            f"{_shown(host)}; they must be the same."
        )
    path = absolute[2] or b"/"
    if not path.startswith(b"/"):
        return _problem(f"The request target {_shown(raw)} has no path.")
    scope["raw_path"], scope["path"] = path, unquote(path.decode("ascii", "replace"))
    return None


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    found = _HOST.fullmatch(value)
    if found is None:
        return False
    address, name, port = found.groups()
    if port and int(port) > 65_535:
        return False
    if name is not None:
        return len(name) <= _LONGEST_NAME
    try:
        IPv6Address(address.decode("ascii"))
    except ValueError:
        return False
    return True


def _shown(value: bytes) -> str:
    return ascii(value[:_SHOWN].decode("latin-1"))


def _problem(message: str) -> Problem:
    return Problem(400, message, "invalid_request")
