"""The program that runs one command, and ends whatever the command started.

A file of its own that imports the standard library only: it is run by its path. Standard input is
one line of JSON, `{"argv", "directory", "seconds", "head", "tail", "live"}`, and stays open: the
command is ended when it is closed, also by the death of the Gateway. Standard output is a sequence
of frames: a letter, four bytes of length, and

    o   output while the command runs, in pieces, `live` bytes at most
    h   the first `head` bytes of the output
    t   the last `tail` bytes behind them
    e   the end: JSON, `{"code", "timeout", "omitted"}`; a negative code is a signal

The process makes itself the subreaper of its descendants: the orphans among them become its
children, also those in sessions of their own. So everything is ended once it has no children.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_CHUNK = 64 * 1024
_LIVE_SECONDS = 0.25
"""Between two pieces of output."""
_ENDING_SECONDS = 5.0
"""For processes that a signal does not end at once, or that belong to somebody else."""


Send = Callable[[bytes, bytes], None]


class GatewayGone(Exception):
    """Nobody reads the frames."""


class Output:
    """The output of the command: its beginning and its end are kept. `send` sends a frame."""

    def __init__(self, head: int, tail: int, live: int, send: Send) -> None:
        self._send = send
        self._most = head, tail
        self._live = live
        self._head, self._tail, self._piece = bytearray(), bytearray(), bytearray()
        self._size = 0
        self._sent_at = 0.0

    def add(self, data: bytes) -> None:
        self._size += len(data)
        piece = data[: self._live]
        self._live -= len(piece)
        self._piece += piece
        room = self._most[0] - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * self._most[1]:
            del self._tail[: len(self._tail) - self._most[1]]

    @property
    def due(self) -> float | None:
        """When the next piece is to be sent."""
        return self._sent_at + _LIVE_SECONDS if self._piece else None

    def send_piece(self) -> None:
        self._send(b"o", bytes(self._piece))
        self._piece.clear()
        self._sent_at = time.monotonic()

    def send_all(self) -> int:
        """Returns how many bytes are left out."""
        tail = bytes(self._tail[max(0, len(self._tail) - self._most[1]) :])
        self._send(b"h", bytes(self._head))
        self._send(b"t", tail)
        return self._size - len(self._head) - len(tail)


def main() -> None:
    request = _request()
    _become_subreaper()
    os.fchdir(request["directory"])
    # Not every event loop closes what the Gateway has open, in a process that it starts.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    reader, writer = os.pipe()
    shell = os.fork()
    if shell == 0:
        _become(request["argv"], writer)
    os.close(writer)
    os.set_blocking(reader, False)
    output = Output(request["head"], request["tail"], request["live"], _send)
    deadline = time.monotonic() + request["seconds"]
    timeout = False
    try:
        timeout = _run(shell, reader, woken, output, deadline)
    except GatewayGone:
        return
    finally:
        code = _end_all(shell)
    with suppress(GatewayGone):
        _drain(reader, output)
        omitted = output.send_all()
        ending = json.dumps({"code": code, "timeout": timeout, "omitted": omitted})
        _send(b"e", ending.encode())


def _request() -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(0, _CHUNK)
        if not data:
            sys.exit(1)
        line += data
    request: dict[str, Any] = json.loads(line)
    return request


def _run(shell: int, reader: int, woken: int, output: Output, deadline: float) -> bool:
    """Until the command ends, the time is up (True) or standard input is closed (GatewayGone)."""
    watched = [0, reader, woken]
    while not _ended(shell):
        now = time.monotonic()
        if now >= deadline:
            return True
        if output.due is not None and now >= output.due:
            output.send_piece()
        until = deadline if output.due is None else min(deadline, output.due)
        ready = select.select(watched, [], [], max(0.0, until - now))[0]
        if woken in ready:
            os.read(woken, _CHUNK)
        if reader in ready:
            data = os.read(reader, _CHUNK)
            output.add(data)
            if not data:
                watched.remove(reader)
        if 0 in ready and not os.read(0, _CHUNK):
            raise GatewayGone
    return False


def _ended(shell: int) -> bool:
    """Whether the command has ended. It is not reaped, so that its id stays its own; others are."""
    while True:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return False
        if found.si_pid == shell:
            return True
        os.waitpid(found.si_pid, 0)


def _end_all(shell: int) -> int:
    """Kill the command and all that it started; returns the code of the command.

    Only children are killed: until they are reaped here, their ids are their own. Each that dies
    makes its children those of this process, until there are none.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(shell, signal.SIGKILL)
    code, deadline = -signal.SIGKILL, time.monotonic() + _ENDING_SECONDS
    while time.monotonic() < deadline:
        for child in _children():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if ended == shell:
            code = os.waitstatus_to_exitcode(status)
        if not ended:
            time.sleep(0.0005)
    return int(code)


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []  # Another system: what left the process group of the command is not ended.


def _drain(reader: int, output: Output) -> None:
    """What is left in the pipe. It is bounded: a process that could not be ended may write on."""
    with suppress(BlockingIOError):
        for _ in range(64):
            if not (data := os.read(reader, _CHUNK)):
                return
            output.add(data)


def _send(kind: bytes, data: bytes) -> None:
    frame = memoryview(kind + len(data).to_bytes(4, "big") + data)
    try:
        while frame:
            frame = frame[os.write(1, frame) :]
    except OSError:
        raise GatewayGone from None


def _become_subreaper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _become(argv: list[str], output: int) -> None:
    """In the new process: run the command. Never returns."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        signal.set_wakeup_fd(-1)
        # An ignored signal stays ignored in the command. Python ignores these two.
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.execv(argv[0], argv)  # noqa: S606  # The shell of the operator's system.
    except OSError as error:
        os.write(2, f"{argv[0]} cannot be run: {error.strerror}\n".encode())
    finally:
        os._exit(126)


if __name__ == "__main__":
    main()
