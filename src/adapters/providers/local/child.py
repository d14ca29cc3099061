"""The program of the child process that runs a model: llama.cpp's server behind a pipe.

The Gateway writes one line of JSON to its standard input, `{"file", "context", "apiKey"}`, and
keeps that pipe open. The child writes one line to its standard output: `{"address", "context",
"slots"}` once it serves, or `{"failed": "<reason>"}`. It exits when the pipe is closed. llama.cpp's
log goes to standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .gguf import NotAModelFile, trained_context

_CACHED_TOKENS = 16_384
"""In all slots together. Their memory is allocated at the start: about 23 kB per token for a model
of 135 M parameters with 8,192 tokens of context, 130 kB per token for one of 8 B."""
_MAX_SLOTS = 4
_BATCH = 64
"""Tokens of a prompt per batch. llama.cpp checks for a disconnected client only between batches;
larger batches are no faster on a CPU."""
_WARNINGS = 2
"""llama.cpp's verbosity: 1 errors, 2 warnings, 3 a few lines per call."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """The first line of standard input. `context`: upper limit in tokens."""

    file: Path
    context: int
    api_key: str

    @staticmethod
    def from_line(line: bytes) -> ChildSettings:
        settings = json.loads(line)
        return ChildSettings(
            Path(settings["file"]), int(settings["context"]), str(settings["apiKey"])
        )


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server in this process. It stops when the object is deleted."""

    address: str
    context: int
    slots: int
    server: object


class CannotServe(Exception):
    """The model cannot be served; the message is for the operator."""


Load = Callable[[ChildSettings], RunningServer]
Exit = Callable[[int], object]


def main() -> None:
    ignore_signals()
    die_with_parent()
    # OpenMP reads this when it is loaded. By default its threads wait for one another in a busy
    # loop, which makes a model about ten times slower on a machine with other load.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    serve(sys.stdin.buffer, own_stdout(), load=load, exit_process=os._exit)


def serve(settings: BinaryIO, report: BinaryIO, *, load: Load, exit_process: Exit) -> None:
    """Load the model named in the first line of `settings`, write the report, wait for the end of
    `settings`.

    A thread watches for that end from the start, so that loading can be interrupted.
    `exit_process` skips cleanup: llama.cpp's shutdown would wait for responses being written.
    """
    line = settings.readline()
    if not line:
        exit_process(0)
        return
    watcher = threading.Thread(target=_exit_at_end, args=(settings, exit_process), daemon=True)
    watcher.start()
    try:
        server = load(ChildSettings.from_line(line))
    except CannotServe as problem:
        _write_report(report, {"failed": str(problem)})
        exit_process(1)
        return
    _write_report(
        report, {"address": server.address, "context": server.context, "slots": server.slots}
    )
    watcher.join()


def load(settings: ChildSettings) -> RunningServer:
    """Start llama.cpp's server in this process. Raises CannotServe."""
    try:
        import xllamacpp
    except ModuleNotFoundError as error:
        raise CannotServe(
            f"{error.name}, which runs local models, is not installed: pip install"
            " 'opensoul[local]'."
        ) from error
    except ImportError as error:
        raise CannotServe(f"xllamacpp cannot be loaded: {error}.") from error
    context = fitting_context(settings)
    slots = slots_for(context)
    params = xllamacpp.CommonParams()
    configure(params, settings, context=context, slots=slots)
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise CannotServe(
            f"llama.cpp cannot load the model file {settings.file} with a context of {context} "
            "tokens: the file is damaged, of an unknown kind, or too large for the memory here."
        ) from error
    return RunningServer(server.listening_address, context, slots, server)


def configure(params: Any, settings: ChildSettings, *, context: int, slots: int) -> None:
    """Fill in xllamacpp's CommonParams (its attributes are those of llama.cpp's common_params)."""
    params.model.path = str(settings.file)
    params.n_ctx = context * slots  # llama.cpp divides it by n_parallel.
    params.n_parallel = slots
    params.n_batch = params.n_ubatch = _BATCH
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings.api_key]
    params.ui = False
    params.endpoint_slots = False  # That endpoint exposes other callers' prompts.
    params.cache_ram_mib = 0  # The default caches up to 8 GiB of old prompts.
    params.verbosity = _WARNINGS


def fitting_context(settings: ChildSettings) -> int:
    """The smaller one of the configured window and the one that the model was trained with.

    Raises CannotServe if the file is unreadable or not a model.
    """
    try:
        trained = trained_context(settings.file)
    except NotAModelFile as problem:
        raise CannotServe(f"The model file {settings.file} cannot be used: {problem}.") from problem
    except OSError as error:
        raise CannotServe(
            f"The model file {settings.file} cannot be read: {error.strerror}."
        ) from error
    return min(settings.context, trained or settings.context)


def slots_for(context: int) -> int:
    """The number of concurrent calls; llama.cpp queues further ones."""
    return max(1, min(_MAX_SLOTS, _CACHED_TOKENS // context))


def ignore_signals() -> None:
    """Ignore the signals that stop a Gateway; the Gateway ends this process after draining.

    The separate session excludes signals of the terminal, but a service manager sends SIGTERM and
    possibly SIGHUP to every process of the service, while runs still need the model.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
        if name in signal.Signals.__members__:
            signal.signal(signal.Signals[name], signal.SIG_IGN)


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when the thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def own_stdout() -> BinaryIO:
    """Reserve standard output for the report: redirect output of libraries to standard error."""
    report = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return report


def _write_report(report: BinaryIO, message: Mapping[str, object]) -> None:
    report.write(json.dumps(message).encode() + b"\n")
    report.close()


def _exit_at_end(settings: BinaryIO, exit_process: Exit) -> None:
    while settings.read(4096):
        pass
    exit_process(0)


if __name__ == "__main__":
    main()
