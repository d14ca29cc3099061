"""An incremental parser of server-sent events, from bytes to the data of complete events.

It follows the parsing rules of the WHATWG HTML standard for the `data` field; what the clients need
is not in the others, except that an event is an error. Deviations, all because of real providers:

- An event that is not followed by a blank line at the end of the stream counts. If it was cut
  within its JSON, decoding fails later.
- A line `error: {...}`, and a line of JSON without a field name, are events.
- `[DONE]` is an event without a following blank line.

`feed` has two paths. If nothing is pending and the piece consists of complete one-line events, the
usual case, it is split at the blank lines. Otherwise the piece is joined with the pending line and
split into lines; the incomplete last line becomes the pending one. A CRLF may be cut between two
pieces, so a line feed directly after a final carriage return is skipped.
"""

from __future__ import annotations

MAX_EVENT_BYTES = 8 * 1024 * 1024
DONE = b"[DONE]"
"""The data of the last event of a stream."""
_LONGEST_DONE = 16
"""Bytes of a line with `[DONE]` and spaces."""
_MOST_LINES = 100_000
"""Data lines of one event. Each takes more memory than its bytes, even an empty one."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CARRIAGE_RETURN = 13


class ErrorEvent(bytes):
    """The data of an event whose name ends with "error", or the value of an `error:` line."""


class StrayLine(bytes):
    """A line without a field name that may be JSON."""


class EventTooLong(Exception):
    """One event exceeds the limit in bytes or lines."""


class EventStream:
    """The parser of one stream; its pieces may be cut at any byte."""

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._rest = bytearray()
        """The incomplete line."""
        self._data: list[bytes] = []
        """The data lines of the incomplete event."""
        self._size = 0
        """The size of `_data` in bytes."""
        self._after_return = False
        """The last byte was a carriage return, so a following line feed is part of the line end."""
        self._is_error = False
        """The name of the incomplete event ends with "error"."""

    @property
    def between_events(self) -> bool:
        """Whether no event is incomplete."""
        return not (self._rest or self._data or self._after_return or self._is_error)

    @property
    def size(self) -> int:
        """Bytes of the incomplete event."""
        return self._size + len(self._rest)

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that `piece` completes, in order. Raises EventTooLong."""
        if self._is_whole_events(piece):
            return [line[6:] for line in piece[:-2].split(b"\n\n")]
        if self._after_return and piece:
            piece = piece.removeprefix(b"\n")
            self._after_return = False
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
        if end < 0:
            return self._hold(piece)
        lines = piece[: end + 1]
        if self._rest:
            lines = bytes(self._rest) + lines
            self._rest.clear()
        self._after_return = end == len(piece) - 1 and piece[end] == _CARRIAGE_RETURN
        # bytes.splitlines knows exactly the three line ends of the standard: LF, CRLF, CR.
        events = self._events(lines.splitlines())
        return events + self._hold(piece[end + 1 :])

    def finish(self) -> list[bytes]:
        """The data of the event that the end of the stream completes, if any."""
        lines = [bytes(self._rest), b""]
        self._rest.clear()
        return self._events(lines)

    def pending(self) -> bytes:
        """The data of the incomplete event so far."""
        rest = bytes(self._rest)
        last = [rest[5:]] if rest.startswith(b"data:") else []
        return b"\n".join(self._data + last)

    def _is_whole_events(self, piece: bytes) -> bool:
        """Whether `piece` consists of complete events of one `data: ` line each (hot path)."""
        if not self.between_events:
            return False
        if not (piece.startswith(b"data: ") and piece.endswith(b"\n\n")) or b"\r" in piece:
            return False
        # `events` counts the lines that begin with "data: " after a blank line. If there are two
        # line feeds per event, no other lines are left.
        events = piece.count(b"\n\ndata: ") + 1
        return piece.count(b"\n") == 2 * events and len(piece) <= self._limit

    def _hold(self, piece: bytes) -> list[bytes]:
        """Store the beginning of a line; `[DONE]` is complete without a line end."""
        self._rest += piece
        if len(self._rest) + self._size > self._limit:
            raise EventTooLong
        if len(self._rest) > _LONGEST_DONE or self._data or not self._rest.startswith(b"data:"):
            return []
        if self._rest[5:].strip() != DONE:
            return []
        self._rest.clear()
        return [DONE]

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._add(line[6:] if line[5:6] == b" " else line[5:], events)
            elif not line:
                self._complete(events)
            else:
                self._other(line, events)
        return events

    def _complete(self, events: list[bytes]) -> None:
        """End the event, and add it if it has data."""
        data = self._data
        if data:
            event = data[0] if len(data) == 1 else b"\n".join(data)
            events.append(ErrorEvent(event) if self._is_error else event)
            data.clear()
            self._size = 0
        self._is_error = False

    def _other(self, line: bytes, events: list[bytes]) -> None:
        """Read a line that is neither data nor empty."""
        line = line.removeprefix(_BYTE_ORDER_MARK)
        if line.startswith(b"data:"):
            self._add(line[5:].removeprefix(b" "), events)
        elif line.startswith(b"event:"):
            self._is_error = line.strip().lower().endswith(b"error")
        elif line.startswith((b"error:", b"{")) or line == DONE:
            self._complete(events)
            error = line.startswith(b"error:")
            events.append(ErrorEvent(line[6:].strip()) if error else StrayLine(line))

    def _add(self, value: bytes, events: list[bytes]) -> None:
        """Add a data line. `[DONE]`, and a JSON object before `[DONE]` or another JSON object,
        are complete without a blank line."""
        if self._data and self._data[-1].endswith(b"}") and value.startswith((b"{", DONE)):
            self._complete(events)
        if len(value) <= _LONGEST_DONE and value.strip() == DONE and not self._data:
            events.append(value)
            return
        self._data.append(value)
        self._size += len(value) + 1
        if self._size > self._limit or len(self._data) > _MOST_LINES:
            raise EventTooLong
