"""One child process that serves a model: its start, its last words, its end."""

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
"""Seconds that a child has to leave by itself once its standard input is closed."""
_Pipe = TypeVar("_Pipe")


@dataclass(frozen=True, slots=True)
class ModelSetup:
    """What a child serves. `context` is in tokens, an upper limit; equal setups share a child."""

    file: Path
    context: int


@dataclass(frozen=True, slots=True)
class ServedAt:
    """Where a child answers, and what for: `slots` calls at a time of `context` tokens each."""

    address: str
    api_key: Secret
    context: int
    slots: int


class ChildFailed(Exception):
    """A child did not come up. `detail`: the end of what it wrote to standard error."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class ModelProcess:
    """A child, from `start` until it has ended. Its protocol is in `child`."""

    served_at: ServedAt
    """Known once `start` has returned."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stdin = _given(process.stdin)
        self._stdout = _given(process.stdout)
        self._stderr = _given(process.stderr)
        self._written = bytearray()
        self._draining = asyncio.create_task(self._drain())

    @classmethod
    async def start(
        cls, command: Sequence[str], setup: ModelSetup, *, patience: float
    ) -> ModelProcess:
        """Start a child and wait until it serves, for `patience` seconds. Raises ChildFailed.

        Call it on the main thread's event loop: on Linux the child is killed when the thread
        that started it ends. Cancelling it ends the child.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # Signals of the terminal are for the Gateway.
            )
        except OSError as error:
            problem = f"{command[0]} cannot be started: {error.strerror}."
            raise ChildFailed(problem) from error
        child = cls(process)
        try:
            async with asyncio.timeout(patience):
                child.served_at = await child._introduce(setup)
        except TimeoutError as error:
            await child.stop()
            problem = f"It did not come up within {patience:g} s."
            raise ChildFailed(problem, child.last_words) from error
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
    def last_words(self) -> str:
        """The end of what it wrote to standard error."""
        return self._written.decode("utf-8", "replace").strip()

    async def ended(self) -> str:
        """Wait until it has ended; a clause that says how."""
        code = await self._process.wait()
        await asyncio.wait([self._draining])  # Unlike `await`, it leaves the task alone.
        if code >= 0:
            return f"exit status {code}"
        with suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    async def stop(self) -> None:
        """End it: politely first, then for certain. Returns when it is gone."""
        self._stdin.close()
        try:
            async with asyncio.timeout(_STOP_GRACE):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await asyncio.wait([self._draining])

    async def _introduce(self, setup: ModelSetup) -> ServedAt:
        """Tell the child what to serve, and hear where it does."""
        api_key = secrets.token_urlsafe(32)
        settings = {"file": str(setup.file), "context": setup.context, "apiKey": api_key}
        with suppress(BrokenPipeError, ConnectionResetError):  # It has ended: read why.
            # Unlike orjson, json can express a file name that is not UTF-8.
            self._stdin.write(json.dumps(settings).encode() + b"\n")
            await self._stdin.drain()
        with suppress(ValueError):  # A line without end.
            return self._read_report(await self._stdout.readline(), api_key)
        if self._stdout.at_eof():
            how = await self.ended()
            raise ChildFailed(f"It ended before it was ready ({how}).", self.last_words)
        raise ChildFailed("It did not say where it answers.", self.last_words)

    def _read_report(self, line: bytes, api_key: str) -> ServedAt:
        """Raises ChildFailed for a reported failure, ValueError for what is no report."""
        report = orjson.loads(line)
        match report:
            case {"failed": str(why)}:
                raise ChildFailed(why, self.last_words)
            case {"address": str(address), "context": int(context), "slots": int(slots)}:
                return ServedAt(address, Secret(api_key), context, slots)
            case _:
                raise ValueError("no report")

    async def _drain(self) -> None:
        """Read standard error all the time, lest the child stops at a full pipe."""
        while piece := await self._stderr.read(8192):
            self._written += piece
            del self._written[:-_LAST_BYTES]


def _given(pipe: _Pipe | None) -> _Pipe:
    """The pipe that was asked for, which asyncio types as if it might be missing."""
    if pipe is None:
        raise RuntimeError("the child has no pipes")
    return pipe
