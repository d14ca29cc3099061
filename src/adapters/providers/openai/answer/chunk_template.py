"""Reads chunks that differ only in their text without decoding their JSON (hot path)."""

from __future__ import annotations

import re

from ...http import json_text
from . import fields

_SAMPLES = 8
"""Events examined before the template is given up, in a stream whose chunks differ in more than
their text (by random padding, for example)."""

_PROBE = "a text that no chunk has"
_NOT_PLAIN = re.compile(rb'["\\\x00-\x1f]')
"""The bytes that end a JSON string, begin an escape, or are invalid in a string."""
_WORTH_IT = 8
"""Events in one piece from which sampling pays off."""


class ChunkTemplate:
    """Extracts the texts of chunks that equal an earlier chunk except for their text.

    In most streams nearly all chunks are `prefix + text + suffix` with the same prefix and suffix
    (id, model, time). `observe` learns the two from a decoded event; `match` then splits a piece of
    many events with a few string operations, far cheaper than decoding each.

    Why the result is correct: the prefix ends with the quotation mark that opens the text, the
    suffix begins with the one that closes it. Bytes between them without quotation mark, backslash
    or control character are the content of exactly one JSON string, so decoding would yield the
    observed chunk with this string as its text. `observe` checks with a second decoding that the
    string at that place is the chunk's text and not, say, an equal id.
    """

    def __init__(self) -> None:
        self._start = self._end = b""
        """The bytes of an event before and after its text; empty while unknown."""
        self._samples = _SAMPLES

    def match(self, piece: bytes) -> tuple[list[str], bytes]:
        """The texts of the leading chunks of `piece` that fit the template, and the rest.

        Returns no texts and the whole piece if it does not begin with such chunks, if other events
        are among them, or if a text contains an escape.
        """
        if not self._start or not piece.startswith(self._start):
            return [], piece
        before, _, rest = piece.rpartition(self._end)
        if len(before) < len(self._start):
            return [], piece
        chunks = before.split(b"\n\n")
        first, last = len(self._start), len(self._end) - 2
        found = [chunk[first:-last] for chunk in chunks[:-1]]
        found.append(chunks[-1][first:])
        if (self._end + self._start).join(found) != before[first:]:
            return [], piece  # A chunk has other bytes around its text.
        if _NOT_PLAIN.search(b"".join(found)):
            return [], piece
        try:
            return [text.decode() for text in found], rest
        except UnicodeDecodeError:
            return [], piece

    def sample(self, piece: bytes) -> tuple[bytes, bytes]:
        """Split `piece` into the part to decode now and the rest to pass to `match` afterwards.

        The part is a single event while samples are needed and the piece has enough events for a
        template to pay off; otherwise it is the whole piece.
        """
        if not self._samples or piece.count(b"\n\n") < _WORTH_IT:
            return piece, b""
        self._samples -= 1
        event, end, rest = piece.partition(b"\n\n")
        return event + end, rest

    def observe(self, payload: bytes, text: str | None) -> None:
        """Learn from a decoded event: `payload` is its data, `text` its text, or None if it has
        other content too."""
        if not self._samples or not text:
            return
        self._samples -= 1
        raw = b'"%b"' % text.encode("utf-8", "surrogatepass")
        before, _, behind = payload.partition(raw)
        other = b'%b"%b"%b' % (before, _PROBE.encode(), behind)
        # Replace the string and decode again: the text must change with it, else the string at this
        # place is another field that happens to be equal.
        if payload.count(raw) == 1 and fields.only_text(json_text.loads(other)) == _PROBE:
            self._start, self._end = b'data: %b"' % before, b'"%b\n\n' % behind
