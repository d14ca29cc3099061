"""Explains HTTP errors, as clauses for the messages of FailureFactory.

aiohttp distinguishes many errors only in its message texts, which are matched here.
"""

from __future__ import annotations

import re

from .connections import LONGEST_HEADER
from .protocol import EXCESS_BEFORE_HEAD, MAX_HEAD_BYTES, MAX_INTERIM, EmptyFraming

_FAULTS = (
    (
        re.compile(r"Can not decode content-encoding: .*\((br|zstd)\)"),
        "it is compressed with {0}, which was not requested and is not supported",
    ),
    (
        re.compile("can't be present with Content-Length"),
        "it has both a Content-Length and a chunked body, so its length is ambiguous",
    ),
    (
        re.compile("Got more than"),
        f"one of its headers, or its status line, is longer than {LONGEST_HEADER // 1024} kB",
    ),
    (
        re.compile(EXCESS_BEFORE_HEAD),
        f"more than {MAX_HEAD_BYTES // 1024} kB or {MAX_INTERIM} interim responses came before it",
    ),
    (re.compile("Too many headers"), "it has too many headers"),
    (
        re.compile(r"Bad status line.*b'\\x15\\x03", re.DOTALL),
        "it expects TLS: its base URL should begin with https://",
    ),
    (re.compile("Bad status line"), "it does not speak HTTP"),
)
_NOT_DECODED = frozenset({"x-gzip", "compress", "x-compress"})
"""Registered encodings that aiohttp does not decode. Other unknown names are usually character sets
in the wrong header, and the body is then not encoded."""


def unreadable_reason(message: str) -> str:
    """Why the headers of the answer could not be read; `message` is aiohttp's."""
    for pattern, fault in _FAULTS:
        if found := pattern.search(message):
            return fault.format(*found.groups())
    return "its HTTP headers are malformed"


def undecodable_reason(content_encoding: str) -> str:
    """Why the body cannot be decoded; empty if it can."""
    names = [name.strip().lower() for name in content_encoding.split(",")]
    if len(names) > 1 or names[0] in _NOT_DECODED:
        shown = content_encoding[:40]
        return f"it is compressed as {shown!r}, which was not requested and is not supported"
    return ""


def broken_reason(error: Exception) -> str:
    """Why the body could not be read to its end."""
    if isinstance(error, EmptyFraming):
        return "it consists almost entirely of chunk framing"
    if encoding := re.search("Can not decode content-encoding: ([a-z]+)", str(error)):
        return f"its {encoding[1]} compression is damaged"
    return "its connection broke within the answer"


def proxy_refusal_reason(status: int) -> str:
    """Why a proxy opened no tunnel, by its status."""
    if status == 407:
        return "its proxy does not accept the user name and password for it (status 407)"
    return f"its proxy refused the connection (status {status})"
