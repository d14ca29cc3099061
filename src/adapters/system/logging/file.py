"""The log file: private, renamed when it is full, begun anew when somebody else moved it."""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

_RETRY_SECONDS = 60.0


class LogFile(logging.FileHandler):
    """Appends to a file of mode 0600.

    When the file has `max_bytes`, it is renamed to `<name>.1`, that to `<name>.2` and so on, and of
    the renamed files `keep` are kept. When it cannot be renamed, logging goes on in it; the failure
    is reported on standard error, and the next attempt is a minute later.
    Raises OSError where the file cannot be opened at first.
    """

    def __init__(self, path: Path, *, max_bytes: int, keep: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._max_bytes = max_bytes
        self._keep = keep
        self._retry_at = 0.0
        super().__init__(path, encoding="utf-8", errors="backslashreplace")

    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_private
        )

    def emit(self, record: logging.LogRecord) -> None:
        # The base class opens the file outside of what it guards.
        try:
            if self.stream is not None:
                self._renew(self.stream)
            super().emit(record)
        except OSError:
            self.handleError(record)

    def _renew(self, present: TextIOWrapper) -> None:
        """Go on in a new file if the present one is full, or is no longer at its path."""
        held = os.fstat(present.fileno())
        if self._is_at_its_path(held):
            if held.st_size < self._max_bytes or not stat.S_ISREG(held.st_mode):
                return
            if not self._make_room():
                return
        # The new file first: without it, the old one stays in use.
        self.stream = self._open()
        with suppress(OSError):  # What could not be written has been reported already.
            present.close()

    def _is_at_its_path(self, held: os.stat_result) -> bool:
        try:
            return os.path.samestat(held, os.stat(self.baseFilename))
        except FileNotFoundError:
            return False

    def _make_room(self) -> bool:
        """Rename the full file; False where that is impossible or has been a short time ago."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            self._rename()
        except OSError as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            with suppress(OSError, ValueError):
                sys.stderr.write(f"opensoul: the log file stays, though it is full: {error}\n")
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


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
