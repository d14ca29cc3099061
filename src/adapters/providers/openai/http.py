"""Why an answer could not be read as HTTP, as clauses that go on from "an unusable answer: ".

The HTTP library says it in messages for developers; which fault it is has to be read from them.
"""

from __future__ import annotations

import re

from .connections import LONGEST_HEADER
from .protocol import EXCESS_BEFORE_HEAD, MAX_HEAD_BYTES, MAX_INTERIM, EmptyFraming

_FAULTS = (
    (
        re.compile(r"Can not decode content-encoding: .*\((br|zstd)\)"),
        "it is compressed with {0}, which was not asked for and cannot be unpacked here",
    ),
    (
        re.compile("can't be present with Content-Length"),
        "it has both a Content-Length and a chunked body, so where it ends is not certain",
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
"""Registered encodings that the HTTP library passes on undecoded. Other unknown names are usually
mistakes for a character set, and the body is then not encoded."""


def why_unreadable(message: str) -> str:
    """The head of the answer could not be read; `message` is the HTTP library's."""
    for pattern, fault in _FAULTS:
        if found := pattern.search(message):
            return fault.format(*found.groups())
    return "its HTTP headers are malformed"


def why_undecoded(content_encoding: str) -> str:
    """The body is encoded in a way that nobody undoes; empty when it is not."""
    names = [name.strip().lower() for name in content_encoding.split(",")]
    if len(names) > 1 or names[0] in _NOT_DECODED:
        shown = content_encoding[:40]
        return f"it is compressed as {shown!r}, which was not asked for and cannot be unpacked here"
    return ""


def why_broken(error: Exception) -> str:
    """The body could not be read to its end."""
    if isinstance(error, EmptyFraming):
        return "it holds little but the framing of its chunks"
    if encoding := re.search("Can not decode content-encoding: ([a-z]+)", str(error)):
        return f"its {encoding[1]} compression is damaged"
    return "its connection broke within the answer"
