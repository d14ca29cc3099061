"""The program that runs one command in bubblewrap, and watches what it uses.

A file of its own that imports the standard library only: it is run by its path. The first argument
is JSON, `{"bwrap", "options", "files", "seccomp", "limits"}`, the others are the command. Standard
input and the outputs are the command's. The exit code is the command's.

Limits of the kernel hold for each process. The watch is for all of them together, and for a Gateway
of root, whose processes the kernel does not count. When the launcher is killed, bubblewrap is, and
with it every process of the sandbox, because they have a PID namespace of their own.
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
from contextlib import suppress
from typing import Any

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
_SECONDS = 0.25
"""Between two looks."""
_SHARE = 20
"""A look takes at most one part of so many of the time."""
_KILLED = 128 + signal.SIGKILL
_FAILED = 125


def main() -> int:
    request: dict[str, Any] = json.loads(sys.argv[1])
    # Not every event loop closes what the Gateway has open, in a process that it starts.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getuid() == 0:
        _protect_devices(libc)
    limits: dict[str, int] = request["limits"]
    info, info_writer = os.pipe()
    waits, go = os.pipe()
    bwrap = os.fork()
    if bwrap == 0:
        _become_bwrap(request, sys.argv[2:], info_writer, waits)
    os.close(info_writer)
    os.close(waits)
    # A server whose outputs are closed has ended, for the Gateway.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    with open(info, "rb") as file:
        text = file.read()
    if text:
        init = int(json.loads(text)["child-pid"])
        with suppress(ProcessLookupError):
            namespace = os.pidfd_open(init)
            # Not earlier: it would count all processes of the account. Not those in the sandbox
            # alone are counted before it has its user namespace.
            most = limits["processes"]
            resource.prlimit(init, resource.RLIMIT_NPROC, (most, most))
            os.write(go, b".")
            _watch(bwrap, init, namespace, limits)
    return _code_of(bwrap)


def _protect_devices(libc: Any) -> None:
    """Make the devices that bubblewrap shows read-only, in a mount namespace of this process.

    Data can be written to them all the same, but a command of a Gateway of root, which owns them,
    cannot change their permissions for the whole machine. Without the capability to mount, as in
    most containers, nothing happens.
    """
    if libc.unshare(_CLONE_NEWNS):
        return
    libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    for name in _DEVICES:
        path = f"/dev/{name}".encode()
        libc.mount(path, path, None, _MS_BIND, None)
        libc.mount(None, path, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY, None)


def _become_bwrap(request: dict[str, Any], command: list[str], info: int, waits: int) -> None:
    """In the new process: run bubblewrap. Never returns."""
    try:
        options = ["--info-fd", str(info), "--block-fd", str(waits)]
        for descriptor in (info, waits):
            os.set_inheritable(descriptor, True)
        for path, text in request["files"].items():
            options += ["--ro-bind-data", str(_content(text.encode())), path]
        if request["seccomp"]:
            options += ["--seccomp", str(_content(bytes.fromhex(request["seccomp"])))]
        for name, number in (
            ("cpu", resource.RLIMIT_CPU),
            ("data", resource.RLIMIT_DATA),
            ("file", resource.RLIMIT_FSIZE),
            ("core", resource.RLIMIT_CORE),
        ):
            _limit(number, request["limits"].get(name))
        # An ignored signal stays ignored in the command. Python ignores these two.
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        argv = [request["bwrap"], *options, *request["options"], "--", *command]
        os.execv(argv[0], argv)  # noqa: S606  # Found by the Gateway.
    except OSError as error:
        os.write(2, f"The sandbox cannot be started: {error.strerror}\n".encode())
    finally:
        os._exit(_FAILED)


def _content(data: bytes) -> int:
    """A descriptor from which the data can be read."""
    file = os.memfd_create("sandbox", 0)
    os.write(file, data)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _limit(number: int, most: int | None) -> None:
    """Lower a limit; one that is lower already stays."""
    if most is None:
        return
    hard = resource.getrlimit(number)[1]
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(number, (value, value))


def _watch(bwrap: int, init: int, namespace: int, limits: dict[str, int]) -> None:
    """Until bubblewrap ends. Everything in the sandbox is killed beyond a limit."""
    poll = select.poll()
    poll.register(os.pidfd_open(bwrap), select.POLLIN)
    pause = _SECONDS
    while not poll.poll(pause * 1_000):
        began = time.monotonic()
        problem = _excess(init, limits)
        if problem:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(namespace, signal.SIGKILL)
            # Not before: a full pipe would hold it up.
            os.write(2, f"\n[ended by the sandbox: {problem}]\n".encode())
            return
        pause = max(_SECONDS, _SHARE * (time.monotonic() - began))


def _excess(init: int, limits: dict[str, int]) -> str:
    """Which limit is passed; empty for none. The sandbox's own /proc has its processes only."""
    proc = f"/proc/{init}/root/proc"
    try:
        pids = [name for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return ""  # It is being set up, or has ended.
    most = limits["processes"]
    if len(pids) > most:
        return f"more than {most} processes and threads"
    found = [_numbers(f"{proc}/{pid}/status") for pid in pids]
    if sum(numbers.get("Threads", 0) for numbers in found) > most:
        return f"more than {most} processes and threads"
    if _kilobytes(found, "RssAnon", "RssShmem", "VmSwap") * 1024 > limits["memory"]:
        # Pages that processes share were counted for each. To count them once takes longer.
        found = [_numbers(f"{proc}/{pid}/smaps_rollup") for pid in pids]
        if _kilobytes(found, "Pss_Anon", "Pss_Shmem", "SwapPss") * 1024 > limits["memory"]:
            return f"more than {limits['memory'] // 2**20} MB of memory"
    return ""


def _numbers(path: str) -> dict[str, int]:
    """The lines of a file of /proc that are a name and a number; none for a process that ended."""
    numbers: dict[str, int] = {}
    with suppress(OSError), open(path, errors="replace") as file:
        for line in file.read().splitlines():
            name, _, value = line.partition(":")
            words = value.split()
            if words and words[0].isdecimal():
                numbers[name] = int(words[0])
    return numbers


def _kilobytes(found: list[dict[str, int]], *names: str) -> int:
    return sum(numbers.get(name, 0) for numbers in found for name in names)


def _code_of(process: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return _KILLED if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
