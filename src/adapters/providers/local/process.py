"""One child process that serves a model: start, captured standard error, exit."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import orjson

from ....domain.models import Secret

_LAST_BYTES = 4_000
_STOP_GRACE = 2.0
"""Seconds that a child has to exit after its standard input is closed."""
_Pipe = TypeVar("_Pipe")


@dataclass(frozen=True, slots=True)
class ModelSetup:
    """What a child serves; equal setups share a child. `context`: upper limit in tokens."""

    file: Path
    context: int


@dataclass(frozen=True, slots=True)
class ChildEndpoint:
    """The API of a child: `slots` concurrent calls of at most `context` tokens each."""

    address: str
    api_key: Secret
    context: int
    slots: int


class ChildFailed(Exception):
    """A child did not start, or exited. `detail`: the end of its standard error."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class ModelProcess:
    """A running child. The module `child` describes its protocol."""

    endpoint: ChildEndpoint
    """Set by `start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stdin = _required(process.stdin)
        self._stdout = _required(process.stdout)
        self._stderr = _required(process.stderr)
        self._written = bytearray()
        self._draining = asyncio.create_task(self._drain())

    @classmethod
    async def start(
        cls, command: Sequence[str], setup: ModelSetup, *, patience: float
    ) -> ModelProcess:
        """Start a child and wait at most `patience` seconds until it serves. Raises ChildFailed.

        Call it on the main thread's event loop: on Linux the kernel kills the child when the thread
        that started it ends. Cancelling the call stops the child.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # The terminal's signals must not reach it.
            )
        except OSError as error:
            problem = f"{command[0]} cannot be started: {error.strerror}."
            raise ChildFailed(problem) from error
        child = cls(process)
        try:
            async with asyncio.timeout(patience):
                child.endpoint = await child._configure(setup)
        except TimeoutError as error:
            await child.stop()
            problem = f"Its process was not ready within {patience:g} s."
            raise ChildFailed(problem, child.stderr_tail) from error
        except ChildFailed as failure:
            await child.stop()  # Behind that, all of its standard error is read.
            raise ChildFailed(failure.message, child.stderr_tail) from failure
        except BaseException:
            await child.stop()
            raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def stderr_tail(self) -> str:
        """The end of its standard error."""
        return self._written.decode("utf-8", "replace").strip()

    async def ended(self) -> str:
        """Wait for its exit; a clause with the exit status or signal."""
        code = await self._process.wait()
        await asyncio.wait(
            [self._draining]
        )  # Unlike `await`, being cancelled here does not cancel the task.
        if code >= 0:
            return f"exit status {code}"
        with suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    async def stop(self) -> None:
        """Close its standard input, kill it after `_STOP_GRACE`, and wait for its exit."""
        self._stdin.close()
        try:
            async with asyncio.timeout(_STOP_GRACE):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await asyncio.wait([self._draining])

    async def _configure(self, setup: ModelSetup) -> ChildEndpoint:
        """Send the settings to the child and read its report."""
        api_key = secrets.token_urlsafe(32)
        settings = {"file": str(setup.file), "context": setup.context, "apiKey": api_key}
        with suppress(
            BrokenPipeError, ConnectionResetError
        ):  # It has exited; its report or status says why.
            # Unlike orjson, json can express a file name that is not UTF-8.
            self._stdin.write(json.dumps(settings).encode() + b"\n")
            await self._stdin.drain()
        with suppress(ValueError):  # The line is too long, or not a report.
            return self._read_report(await self._stdout.readline(), api_key)
        if self._stdout.at_eof():
            how = await self.ended()
            raise ChildFailed(f"Its process exited before it was ready ({how}).")
        raise ChildFailed("Its process did not report its address.")

    def _read_report(self, line: bytes, api_key: str) -> ChildEndpoint:
        """Raises ChildFailed for a reported failure, ValueError for an invalid report."""
        report = orjson.loads(line)
        match report:
            case {"failed": str(why)}:
                raise ChildFailed(why)
            case {"address": str(address), "context": int(context), "slots": int(slots)}:
                return ChildEndpoint(address, Secret(api_key), context, slots)
            case _:
                raise ValueError("invalid report")

    async def _drain(self) -> None:
        """Read standard error continuously: a full pipe would block the child."""
        while chunk := await self._stderr.read(8192):
            self._written += chunk
            del self._written[:-_LAST_BYTES]


def _required(pipe: _Pipe | None) -> _Pipe:
    """Narrow the type: asyncio types pipes as optional."""
    if pipe is None:
        raise RuntimeError("the child process was started without pipes")
    return pipe
