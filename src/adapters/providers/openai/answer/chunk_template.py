"""Chunks of one stream that differ in their text alone: the hottest part of the hot path."""

from __future__ import annotations

import re

from .. import json as openai_json
from . import fields as fields

_SAMPLES = 8
"""Events that are sampled for the template. More would be wasted on a stream whose chunks differ in
more than their text, by random padding for example."""

_PROBE = "a text that no chunk has"
_NO_PLAIN_TEXT = re.compile(rb'["\\\x00-\x1f]')
"""What ends a JSON string, begins an escape, or may not stand in one."""
_WORTH_IT = 8
"""Events that come at once."""


class ChunkTemplate:
    """Reads the match of chunks that are, byte for byte, an earlier one with another text.

    Of most streams nearly all chunks are so, and to see that takes a small part of the time that
    decoding each takes. What has no quotation mark and no backslash between the same bytes is a
    JSON text that tells exactly what the earlier one told, but for this string.
    """

    def __init__(self) -> None:
        self._start = self._end = b""
        """Of an event: before its text and behind it."""
        self._samples = _SAMPLES

    def match(self, piece: bytes) -> tuple[list[str], bytes]:
        """The match of the chunks that `piece` begins with, and what is left of it. All of it is
        left where other events stand between such chunks, or a text holds an escape."""
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
            return [], piece  # With the same bytes around them it would be.
        if _NO_PLAIN_TEXT.search(b"".join(found)):
            return [], piece
        try:
            return [text.decode() for text in found], rest
        except UnicodeDecodeError:
            return [], piece

    def sample(self, piece: bytes) -> tuple[bytes, bytes]:
        """What of `piece` is to be read before `match` is asked again, and the rest: one event for
        as long as there is something to observe, and many events to make use of it."""
        if not self._samples or piece.count(b"\n\n") < _WORTH_IT:
            return piece, b""
        self._samples -= 1
        event, end, rest = piece.partition(b"\n\n")
        return event + end, rest

    def observe(self, payload: bytes, text: str | None) -> None:
        """`payload`, the data of one event, was found to tell `text` and nothing else; None: more,
        or something else."""
        if not self._samples or not text:
            return
        self._samples -= 1
        raw = b'"%b"' % text.encode("utf-8", "surrogatepass")
        before, _, behind = payload.partition(raw)
        other = b'%b"%b"%b' % (before, _PROBE.encode(), behind)
        # It may stand elsewhere in the chunk: then another text there is not the chunk's.
        if payload.count(raw) == 1 and fields.only_text(openai_json.loads(other)) == _PROBE:
            self._start, self._end = b'data: %b"' % before, b'"%b\n\n' % behind
