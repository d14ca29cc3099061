"""A server as a child process: one JSON message a line, over its standard input and output.

The transport of the `mcp` package is not used: it has no limit for a message, takes quadratic time
for a long one, and does not end the processes that a server leaves behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from ...domain.concurrency import off_loop
from ...domain.settings import McpServerSettings
from .confinement import Confiner
from .errors import MOST_BYTES, Diagnostics, ServerUnavailable

logger = logging.getLogger(__name__)

_INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
_EXIT_GRACE = 1.0
"""Seconds that a server has to exit after its standard input is closed, and again after SIGTERM."""

_EXEC = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the Gateway has ended")
os.execv(sys.argv[2], sys.argv[3:])
"""
"""Has the kernel kill the server when the Gateway ends, and becomes the server. Not a `preexec_fn`:
Python code between fork and exec can hang in a process with threads."""


@asynccontextmanager
async def stdio_transport(
    server: McpServerSettings,
    environ: Mapping[str, str],
    confiner: Confiner | None,
    diagnostics: Diagnostics,
    on_lost: Callable[[], None],
) -> AsyncGenerator[TransportStreams]:
    """Start the server; it is ended, with all processes of its group, when the context is left.

    `on_lost` is called at the end of its output. Raises ServerUnavailable.
    """
    process = await _start(server, environ, confiner)
    assert process.stdin is not None  # noqa: S101 - for the type checker
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    received_in, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    sent, sent_out = anyio.create_memory_object_stream[SessionMessage](0)

    async def read(stdout: asyncio.StreamReader) -> None:
        async with received_in:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                async for message in _messages(stdout, server.name):
                    await received_in.send(message)
        on_lost()

    async def write(stdin: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            async for message in sent_out:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                stdin.write(text.encode() + b"\n")
                await stdin.drain()

    keeping = asyncio.create_task(_keep(process.stderr, diagnostics))
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, process.stdout)
            tasks.start_soon(write, process.stdin)
            try:
                yield received, sent
            finally:
                tasks.cancel_scope.cancel()
    finally:
        for stream in (received_in, received, sent, sent_out):
            stream.close()
        await asyncio.shield(asyncio.create_task(_end(process, keeping)))


async def _start(
    server: McpServerSettings, environ: Mapping[str, str], confiner: Confiner | None
) -> asyncio.subprocess.Process:
    env = {name: environ[name] for name in _INHERITED if name in environ}
    env |= {name: value.reveal() for name, value in server.env}
    program = shutil.which(server.command, path=env.get("PATH"))
    if program is None:
        raise ServerUnavailable(f"there is no program {server.command!r} that can be run")
    argv, name, cwd = [program, *server.args], server.command, server.cwd
    if confiner is not None:
        argv, cwd = await confiner.command_line(argv, cwd), None
        name = argv[0]
    try:
        return await asyncio.create_subprocess_exec(
            *_command(argv[0], name, argv[1:]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MOST_BYTES,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        place = f" in {server.cwd}" if server.cwd else ""
        problem = f"{server.command!r} cannot be started{place}: {error.strerror}"
        raise ServerUnavailable(problem) from error


def _command(program: str, name: str, args: Sequence[str]) -> list[str]:
    if sys.platform != "linux":
        return [program, *args]
    path = os.path.abspath(program)
    return [sys.executable, "-ISc", _EXEC, str(os.getpid()), path, name, *args]


async def _messages(
    stdout: asyncio.StreamReader, name: str
) -> AsyncGenerator[SessionMessage | Exception]:
    """The messages until the end of the output, or until one that is too large."""
    while True:
        try:
            line = await stdout.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            extra = {"server": name, "most_bytes": MOST_BYTES}
            logger.warning("an MCP server sent a message that is too large", extra=extra)
            return
        if line.isspace():
            continue
        try:
            yield SessionMessage(await off_loop(len(line), lambda line=line: _parsed(line)))  # type: ignore[misc]
        except ValueError:
            # Many servers print what is meant for people.
            logger.debug("an MCP server printed a line that is no message", extra={"server": name})


def _parsed(line: bytes) -> Any:
    return jsonrpc_message_adapter.validate_json(line, by_name=False)


async def _keep(errors: asyncio.StreamReader, diagnostics: Diagnostics) -> None:
    while chunk := await errors.read(65_536):
        diagnostics.add(chunk)


async def _end(process: asyncio.subprocess.Process, keeping: asyncio.Task[None]) -> None:
    """End the process and its group. Does not wait for pipes that a descendant keeps open."""
    assert process.stdin is not None  # noqa: S101 - for the type checker
    process.stdin.close()
    if not await _exited(process):
        _signal(process.pid, signal.SIGTERM)
        await _exited(process)
    _signal(process.pid, signal.SIGKILL)  # Whatever is left of the group.
    await _exited(process)
    await asyncio.wait([keeping], timeout=_EXIT_GRACE)
    keeping.cancel()
    # Not public. Otherwise it stays open as long as a descendant outside of the group has a pipe.
    process._transport.close()  # type: ignore[attr-defined]


async def _exited(process: asyncio.subprocess.Process) -> bool:
    """Whether the process exits within the grace period. `process.wait()` also waits for pipes."""
    deadline = asyncio.get_running_loop().time() + _EXIT_GRACE
    while process.returncode is None:
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
