"""The log file: mode 0600, rotated when it is full, reopened when another program moved it."""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from ....domain.text import escape_line
from .values import masked

_RETRY_SECONDS = 60.0


class OwnHandler(logging.Handler):
    """A handler of ours. An error in it is reported as a single line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        reason = masked(f"{type(sys.exception()).__name__}: {sys.exception()}")
        if sys.stderr is None:
            return
        with suppress(OSError, ValueError):
            lost = f"opensoul: cannot write a log line of {record.name}: {reason}"
            sys.stderr.write(f"{escape_line(lost)}\n")


class LogFile(OwnHandler, logging.FileHandler):
    """Appends to a file of mode 0600.

    When the file reaches `max_bytes`, it is renamed to `<name>.1`, `<name>.1` to `<name>.2` and so
    on; at most `keep` renamed files exist. If renaming fails, logging continues in the full file,
    the error is reported on standard error, and the next attempt is made a minute later.
    The constructor raises OSError if the file cannot be opened.
    """

    def __init__(self, path: Path, *, max_bytes: int, keep: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._max_bytes = max_bytes
        self._keep = keep
        self._retry_at = 0.0
        super().__init__(path, encoding="utf-8", errors="backslashreplace")

    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_open_private
        )

    def emit(self, record: logging.LogRecord) -> None:
        # The base class may open the file outside its own `try`.
        try:
            if self.stream is not None:
                self._renew(self.stream)
            super().emit(record)
        except OSError:
            self.handleError(record)

    def _renew(self, stream: TextIOWrapper) -> None:
        """Open a new file if the present one is full or no longer at its path."""
        status = os.fstat(stream.fileno())
        if self._is_at_its_path(status):
            if status.st_size < self._max_bytes or not stat.S_ISREG(status.st_mode):
                return
            if not self._make_room():
                return
        # Open the new file first: if that fails, the old one stays in use.
        self.stream = self._open()
        with suppress(OSError):  # Errors of the last write were reported by `emit`.
            stream.close()

    def _is_at_its_path(self, status: os.stat_result) -> bool:
        try:
            return os.path.samestat(status, os.stat(self.baseFilename))
        except FileNotFoundError:
            return False

    def _make_room(self) -> bool:
        """Rename the full file; False if that fails, or failed within the last minute."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            self._rename()
        except OSError as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            with suppress(OSError, ValueError):
                sys.stderr.write(
                    f"opensoul: cannot rename the full log file, logging continues in it: {error}\n"
                )
            return False
        return True

    def _rename(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.replace(self._numbered(number), self._numbered(number + 1))
        if self._keep:
            os.replace(self.baseFilename, self._numbered(1))
        else:
            os.unlink(self.baseFilename)

    def _numbered(self, number: int) -> str:
        return f"{self.baseFilename}.{number}"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
