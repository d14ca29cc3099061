"""The standard streams of a command, whatever it was started with: closed, full, or other bytes."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from ...terminal import echo

_IN, _OUT, _ERR = 0, 1, 2


def open_all() -> None:
    """Make the three streams of this process usable. Only for a process that is a command.

    A closed one is opened on the null device: files that are opened later, such as the store,
    would otherwise get its number, and with it whatever a library prints.
    """
    for number in (_IN, _OUT, _ERR):
        _open(number)
    sys.stdin = sys.stdin or os.fdopen(_IN, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(_OUT, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What its encoding does not have is shown by number instead of failing the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    raw = sys.stderr.buffer if sys.stderr else os.fdopen(_ERR, "wb", closefd=False)
    sys.stderr = _Lenient(
        raw,
        encoding=_encoding(sys.stderr),
        errors="backslashreplace",
        line_buffering=True,
        write_through=getattr(sys.stderr, "write_through", False),
    )


def exit_code(run: Callable[[], int]) -> int:
    """Run a command and write out what it printed; its exit code, 1 where that was not possible."""
    code = 0
    try:
        code = run()
        sys.stdout.flush()
    except OSError as error:
        if code == 0 and not _reader_is_gone(error):
            echo(f"opensoul: standard output: {error.strerror}", err=True)
        discard_output()
        return code or 1
    return code


def discard_output() -> None:
    """Standard output cannot be written. What is left of it goes to the null device: Python would
    try once more at its end, and exit with 120."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _OUT)
    os.close(null)


def _reader_is_gone(error: Exception) -> bool:
    """Whether it was raised because whoever read standard output, as `head` does, has ended."""
    if not isinstance(error, BrokenPipeError) or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(_OUT, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def read_text() -> str:
    """Standard input to its end. Raises ValueError, with a message, where it is not UTF-8 text."""
    data = sys.stdin.buffer.read()
    try:
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(
            f"standard input is not UTF-8 text (byte 0x{byte:02x} in position {error.start})."
        ) from None


class _Lenient(io.TextIOWrapper):
    """Drops what cannot be written: an error message that fails has nobody to be reported to, and
    a log whose disk is full must not stop what it reports on."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _open(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)


def _encoding(stream: TextIO | Any) -> str:
    """The stream's, or UTF-8 where it has none or only ASCII."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    return "utf-8" if encoding.lower().replace("-", "") in ("ascii", "usascii") else encoding
