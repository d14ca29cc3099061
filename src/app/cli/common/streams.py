"""Makes the standard streams usable if they are closed, full, or of another encoding."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

import click

from ...terminal import echo

_IN, _OUT, _ERR = 0, 1, 2


def open_all() -> None:
    """Make the three streams usable; for a process of its own only.

    A closed one is opened on the null device. Otherwise a file that is opened later, such as the
    store, would get its descriptor, and the output of libraries with it.
    """
    for number in (_IN, _OUT, _ERR):
        _open(number)
    sys.stdin = sys.stdin or os.fdopen(_IN, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(_OUT, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Characters that the encoding lacks are escaped instead of failing the command.
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
    """Run a command and flush its output. Returns its exit code, 1 if the output failed."""
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
    """Send the rest of standard output to the null device: Python would try to flush it at exit,
    and exit with 120."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _OUT)
    os.close(null)


def _reader_is_gone(error: Exception) -> bool:
    """Whether the reader of standard output, such as `head`, has ended."""
    if not isinstance(error, BrokenPipeError) or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(_OUT, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def read_text(option: str) -> str:
    """Standard input without a final line break, as the value of an option.

    Raises click.BadParameter where it is not UTF-8 text.
    """
    data = sys.stdin.buffer.read()
    try:
        text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise click.BadParameter(
            f"standard input is not UTF-8 text (byte 0x{byte:02x} in position {error.start}).",
            param_hint=option,
        ) from None
    # The line break at the end of a file or of `echo` is not part of the value.
    return text.removesuffix("\n")


class _Lenient(io.TextIOWrapper):
    """Drops what cannot be written: there is no way to report it, and a log on a full disk must not
    stop the program."""

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
    """The encoding of the stream; UTF-8 if it has none, or ASCII."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    return "utf-8" if encoding.lower().replace("-", "") in ("ascii", "usascii") else encoding
