"""Server-sent events, from bytes as a socket delivers them to the data of whole events.

After the parsing rules of the WHATWG HTML standard ("server-sent events"), for the `data` field
alone: providers of chat completions put nothing of use into the others. Unlike the standard, an
event that the end of the stream completes counts, since some providers leave out the last blank
line; one that was cut within its JSON shows when it is decoded. Three things that providers send
and the standard does not know are passed on: `error: {...}` as a line of its own, a line of JSON
without a field name, and a `[DONE]` that no blank line follows.
"""

from __future__ import annotations

MAX_EVENT_BYTES = 8 * 1024 * 1024
DONE = b"[DONE]"
"""The data of the event behind the answer."""
_LONGEST_DONE = 16
"""Bytes of a line with `[DONE]` and spaces."""
_MOST_LINES = 100_000
"""Of one event. An empty line takes more memory than its bytes."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CARRIAGE_RETURN = 13


class ErrorEvent(bytes):
    """The data of an event whose name says that it is an error, or the rest of an error line."""


class StrayLine(bytes):
    """A line of the stream that has no field name and may be JSON."""


class EventTooLong(Exception):
    """One event holds more than the limit, in bytes."""


class EventStream:
    """Takes the bytes of one stream in pieces cut anywhere, gives the data of its events."""

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._rest = bytearray()
        """The line that has not ended yet."""
        self._data: list[bytes] = []
        """The data lines of the event that has not ended yet, and their size."""
        self._size = 0
        self._after_return = False
        """The last byte was a carriage return: a line feed that follows belongs to it."""
        self._is_error = False
        """The event that has not ended yet is named an error."""

    @property
    def between_events(self) -> bool:
        """Whether nothing of an event is waiting for its rest."""
        return not (self._rest or self._data or self._after_return or self._is_error)

    @property
    def size(self) -> int:
        """Bytes that wait for the end of their event."""
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
            return self._keep(piece)
        lines = piece[: end + 1]
        if self._rest:
            lines = bytes(self._rest) + lines
            self._rest.clear()
        self._after_return = end == len(piece) - 1 and piece[end] == _CARRIAGE_RETURN
        # bytes.splitlines knows exactly the three line ends of the standard: LF, CRLF, CR.
        events = self._events(lines.splitlines())
        return events + self._keep(piece[end + 1 :])

    def finish(self) -> list[bytes]:
        """The data of what the end of the stream completes: one event at most."""
        lines = [bytes(self._rest), b""]
        self._rest.clear()
        return self._events(lines)

    def waiting(self) -> bytes:
        """The data of the event that has not ended yet, as far as it came."""
        rest = bytes(self._rest)
        last = [rest[5:]] if rest.startswith(b"data:") else []
        return b"\n".join(self._data + last)

    def _is_whole_events(self, piece: bytes) -> bool:
        """Whether `piece` is events of one `data: ` line each and nothing else: the hot path."""
        if not self.between_events:
            return False
        if not (piece.startswith(b"data: ") and piece.endswith(b"\n\n")) or b"\r" in piece:
            return False
        # Every event is a line that begins so, and every other line is empty.
        events = piece.count(b"\n\ndata: ") + 1
        return piece.count(b"\n") == 2 * events and len(piece) <= self._limit

    def _keep(self, piece: bytes) -> list[bytes]:
        """Keep the begin of a line; the mark of the end alone needs no line end."""
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
        """Add the event that ends here, if there is one."""
        data = self._data
        if data:
            event = data[0] if len(data) == 1 else b"\n".join(data)
            events.append(ErrorEvent(event) if self._is_error else event)
            data.clear()
            self._size = 0
        self._is_error = False

    def _other(self, line: bytes, events: list[bytes]) -> None:
        """Read a line that neither is data nor empty."""
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
        """Add a line of data; the mark of the end is an event without waiting for a blank line, and
        so is a JSON object in front of it or of another one."""
        if self._data and self._data[-1].endswith(b"}") and value.startswith((b"{", DONE)):
            self._complete(events)
        if len(value) <= _LONGEST_DONE and value.strip() == DONE and not self._data:
            events.append(value)
            return
        self._data.append(value)
        self._size += len(value) + 1
        if self._size > self._limit or len(self._data) > _MOST_LINES:
            raise EventTooLong
