"""The program of the child process that runs a model: llama.cpp's server behind a pipe.

The Gateway writes one line of JSON to its standard input, `{"file", "context", "apiKey"}`, and
keeps that pipe open. The child answers with one line on its standard output: `{"address",
"context", "slots"}` once it serves, or `{"failed": "<why>"}`. It lives as long as the pipe is
open. What llama.cpp logs goes to standard error.
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
"""Over all slots. Memory for them is taken at the start: 23 kB a token for a model of 135 M
parameters with 8,192 tokens of context, some 130 kB a token for one of 8 B."""
_MAX_SLOTS = 4
_BATCH = 64
"""Tokens of a prompt that are worked through at a time. llama.cpp notices only between two of
these that a client has left; larger ones are no faster on a CPU."""
_WARNINGS = 2
"""llama.cpp's verbosity: 1 errors, 2 warnings too, 3 a few lines for every call."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """What the Gateway asks for. `context` is in tokens, an upper limit."""

    file: Path
    context: int
    api_key: str

    @staticmethod
    def from_line(line: bytes) -> ChildSettings:
        given = json.loads(line)
        return ChildSettings(Path(given["file"]), int(given["context"]), str(given["apiKey"]))


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs in this process for as long as this object lives."""

    address: str
    context: int
    slots: int
    server: object


class CannotServe(Exception):
    """The model cannot be served; the message is a sentence for the operator."""


Load = Callable[[ChildSettings], Served]
Leave = Callable[[int], object]


def main() -> None:
    """Run as a child of the Gateway."""
    ignore_signals()
    die_with_parent()
    # Read when OpenMP is loaded. Its threads otherwise wait for one another in a busy loop, which
    # makes a model on a machine with other work to do some ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    serve(sys.stdin.buffer, _own_stdout(), load=load, leave=os._exit)


def serve(settings: BinaryIO, report: BinaryIO, *, load: Load, leave: Leave) -> None:
    """Load what the first line of `settings` asks for, report it, leave when `settings` ends.

    The end is watched for while the model loads, too. `leave` ends the process at once:
    llama.cpp's own shutdown would wait for answers that nobody reads any more.
    """
    line = settings.readline()
    if not line:
        leave(0)
        return
    watcher = threading.Thread(target=_leave_at_end, args=(settings, leave), daemon=True)
    watcher.start()
    try:
        served = load(ChildSettings.from_line(line))
    except CannotServe as problem:
        _tell(report, {"failed": str(problem)})
        leave(1)
        return
    _tell(report, {"address": served.address, "context": served.context, "slots": served.slots})
    watcher.join()


def load(settings: ChildSettings) -> Served:
    """Start llama.cpp's server in this process. Raises CannotServe."""
    try:
        import xllamacpp
    except ModuleNotFoundError as error:
        raise CannotServe(
            f"{error.name} is not installed, which runs models here: pip install 'opensoul[local]'."
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
    return Served(server.listening_address, context, slots, server)


def configure(params: Any, settings: ChildSettings, *, context: int, slots: int) -> None:
    """Fill in xllamacpp's CommonParams (its attributes are those of llama.cpp's common_params)."""
    params.model.path = str(settings.file)
    params.n_ctx = context * slots  # llama.cpp divides it: every slot has the full window.
    params.n_parallel = slots
    params.n_batch = params.n_ubatch = _BATCH
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings.api_key]
    params.ui = False
    params.endpoint_slots = False  # It shows other callers' prompts.
    params.cache_ram_mib = 0  # Otherwise up to 8 GiB of old prompts are kept.
    params.verbosity = _WARNINGS


def fitting_context(settings: ChildSettings) -> int:
    """The window asked for, or what the model was trained with if that is less.

    Raises CannotServe where the file is unreadable or no model.
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
    """How many calls may run at a time; more wait for their turn inside llama.cpp."""
    return max(1, min(_MAX_SLOTS, _CACHED_TOKENS // context))


def ignore_signals() -> None:
    """Leave the signals that stop a Gateway to it; it ends this process when it has drained.

    A session of its own keeps those of the terminal away, but a service manager sends SIGTERM, and
    perhaps SIGHUP, to every process of the service, while runs still need the model.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
        if name in signal.Signals.__members__:
            signal.signal(signal.Signals[name], signal.SIG_IGN)


def die_with_parent() -> None:
    """Have Linux kill this process when the thread that started it ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_stdout() -> BinaryIO:
    """Standard output for the report alone: what libraries print goes to standard error."""
    report = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return report


def _tell(report: BinaryIO, message: Mapping[str, object]) -> None:
    report.write(json.dumps(message).encode() + b"\n")
    report.close()


def _leave_at_end(settings: BinaryIO, leave: Leave) -> None:
    while settings.read(4096):
        pass
    leave(0)


if __name__ == "__main__":
    main()
