"""Server-sent events, from bytes as a socket delivers them to the data of whole events.

After the parsing rules of the WHATWG HTML standard ("server-sent events"), for the `data` field
alone: providers of chat completions put nothing of use into the others. Unlike the standard, an
event that the end of the stream completes counts, since some providers leave out the last blank
line; one that was cut within its JSON shows when it is decoded.
"""

from __future__ import annotations

MAX_EVENT_BYTES = 8 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CARRIAGE_RETURN = 13


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

    @property
    def between_events(self) -> bool:
        """Whether nothing of an event is waiting for its rest."""
        return not (self._rest or self._data or self._after_return)

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that `piece` completes, in order. Raises EventTooLong."""
        if self._is_whole_events(piece):
            return [line[6:] for line in piece[:-2].split(b"\n\n")]
        if self._after_return and piece:
            piece = piece.removeprefix(b"\n")
            self._after_return = False
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
        if end < 0:
            self._keep(piece)
            return []
        lines = piece[: end + 1]
        if self._rest:
            lines = bytes(self._rest) + lines
            self._rest.clear()
        self._after_return = end == len(piece) - 1 and piece[end] == _CARRIAGE_RETURN
        self._keep(piece[end + 1 :])
        # bytes.splitlines knows exactly the three line ends of the standard: LF, CRLF, CR.
        return self._events(lines.splitlines())

    def finish(self) -> list[bytes]:
        """The data of what the end of the stream completes: one event at most."""
        lines = [bytes(self._rest), b""]
        self._rest.clear()
        return self._events(lines)

    def _is_whole_events(self, piece: bytes) -> bool:
        """Whether `piece` is events of one `data: ` line each and nothing else: the hot path."""
        if not self.between_events:
            return False
        if not (piece.startswith(b"data: ") and piece.endswith(b"\n\n")) or b"\r" in piece:
            return False
        # Every event is a line that begins so, and every other line is empty.
        events = piece.count(b"\n\ndata: ") + 1
        return piece.count(b"\n") == 2 * events and len(piece) <= self._limit

    def _keep(self, piece: bytes) -> None:
        self._rest += piece
        if len(self._rest) + self._size > self._limit:
            raise EventTooLong

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                self._add(line[6:] if line[5:6] == b" " else line[5:])
            elif not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
                    self._size = 0
            elif line.startswith(_BYTE_ORDER_MARK + b"data:"):
                self._add(line[8:].removeprefix(b" "))
        return events

    def _add(self, value: bytes) -> None:
        self._data.append(value)
        self._size += len(value) + 1
        if self._size > self._limit:
            raise EventTooLong
