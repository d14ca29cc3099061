"""Refuses requests whose target or Host is malformed, before the framework reads them.

The framework and its routing raise on some of these (a host name with an empty label, an empty
path), which would be a 500 with a traceback for something that a stranger can send at will.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import unquote

from .errors import Problem

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
