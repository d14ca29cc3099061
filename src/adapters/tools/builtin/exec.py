"""`exec`: a command in a shell, in the workspace."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from pydantic import Field

from ....domain.agents import Agent
from ....domain.concurrency import shielded
from ....domain.ports import Sandbox
from ....domain.tools import Effect, SandboxPolicy, ToolOutput, ToolResult, ToolSpec
from .tool import Outputs, Parameters, Tool, ToolFailed, finished
from .workspace import Workspace, for_the_model

EXEC = "exec"
SECONDS = 120
MOST_SECONDS = 1_800
HEAD = TAIL = 64 * 1024
"""Bytes of the output that are kept of its beginning and of its end."""
LIVE = 16 * 1024
"""Bytes of the output that followers of the run get while the command runs."""
_GRACE = 10.0
"""Seconds for the child process to end what the command has started."""
_CHILD = str(Path(__file__).with_name("exec_child.py"))
_SHELLS = ("/bin/bash", "/bin/sh")
_MARK = "OPENSOUL_EXEC"
ALLOWED_VARIABLES = frozenset(
    {
        "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER",
        "SSL_CERT_DIR", "SSL_CERT_FILE", "LC_ADDRESS", "LC_ALL", "LC_COLLATE", "LC_CTYPE",
        "LC_IDENTIFICATION", "LC_MEASUREMENT", "LC_MESSAGES", "LC_MONETARY", "LC_NAME",
        "LC_NUMERIC", "LC_PAPER", "LC_TELEPHONE", "LC_TIME",
    }
)  # fmt: skip


class Exec(Parameters):
    command: str = Field(min_length=1, description="The command, in the syntax of the shell.")
    workdir: str = Field(default=".", description="The folder, relative to the workspace.")
    timeout: int = Field(
        default=SECONDS, ge=1, le=MOST_SECONDS, description="Seconds until the command is ended."
    )


def allowed_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that a command gets: none of them holds a secret."""
    allowed = {name: value for name, value in env.items() if name in ALLOWED_VARIABLES}
    return {"PATH": os.defpath, **allowed, "TERM": "dumb"}


@dataclass(frozen=True, slots=True)
class CommandRunner:
    """Runs commands, each under a child process that ends it with all that it started.

    `env`: the environment of the Gateway, of which the command gets the allowed variables.
    """

    env: Mapping[str, str]
    sandbox: Sandbox
    shell: str = field(default_factory=lambda: next(filter(os.path.exists, _SHELLS), _SHELLS[-1]))

    async def run(self, arguments: Exec, agent: Agent) -> Outputs:
        if "\0" in arguments.command:
            raise ToolFailed("The command contains a NUL character.")
        mark = uuid4().hex
        process = await self._started(arguments, agent, mark)
        frames = _frames(process, arguments.timeout + _GRACE)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        parts: dict[bytes, bytes] = {}
        try:
            async for kind, data in frames:
                if kind == b"o":
                    yield ToolOutput(decoder.decode(data))
                else:
                    parts[kind] = data
        finally:
            await frames.aclose()
            await shielded(_end(process, mark, complete=b"e" in parts))
        yield _result(parts, arguments.timeout)

    async def _started(self, arguments: Exec, agent: Agent, mark: str) -> Process:
        opened: list[int] = []
        try:
            await finished(lambda: opened.append(_opened(agent.workspace, arguments.workdir)))
            argv = [self.shell, "-c", arguments.command]
            if agent.sandbox.confines:
                place = await asyncio.to_thread(_path_of, opened[0], agent.workspace)
                argv = await self.sandbox.confined(
                    agent.sandbox, agent.workspace, argv, directory=place
                )
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                _CHILD,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env={**allowed_environment(self.env), _MARK: mark},
                pass_fds=opened,
                start_new_session=True,
            )
            request = {
                "argv": argv,
                "directory": opened[0],
                "seconds": arguments.timeout,
                "head": HEAD,
                "tail": TAIL,
                "live": LIVE,
            }
        finally:
            for directory in opened:
                os.close(directory)
        if process.stdin is not None:
            process.stdin.write(json.dumps(request).encode() + b"\n")
        return process


def exec_tool(env: Mapping[str, str], sandbox: Sandbox) -> Tool[Exec]:
    return Tool(
        EXEC,
        "Run a command in a shell, in the workspace. It gets no input. It ends after `timeout`"
        f" seconds, {SECONDS} by default, and with it everything that it started, also in the"
        " background. Of a long output the beginning and the end are kept.",
        Exec,
        CommandRunner(env, sandbox).run,
        frozenset(Effect),
    )


def confined_spec(spec: ToolSpec, policy: SandboxPolicy) -> ToolSpec:
    """The tool as an agent with a sandbox sees it, so that its model does not try in vain."""
    network = "" if policy.network else ", and there is no network"
    note = f" It runs in a sandbox: only the workspace can be changed{network}."
    return replace(spec, description=spec.description + note)


def _opened(workspace: str, workdir: str) -> int:
    with for_the_model(workdir):
        return Workspace(workspace).open_directory(workdir)


def _path_of(directory: int, workspace: str) -> str:
    """The path of an open directory of the workspace, without the links that led to it."""
    found = os.readlink(f"/proc/self/fd/{directory}")
    return os.path.join(workspace, os.path.relpath(found, os.path.realpath(workspace)))


async def _frames(process: Process, seconds: float) -> AsyncGenerator[tuple[bytes, bytes]]:
    """The frames of the child process until it ends, or for that time."""
    stdout = process.stdout
    with suppress(asyncio.IncompleteReadError, TimeoutError):
        deadline = asyncio.get_running_loop().time() + seconds
        while stdout is not None:
            async with asyncio.timeout_at(deadline):
                header = await stdout.readexactly(5)
                data = await stdout.readexactly(int.from_bytes(header[1:], "big"))
            yield header[:1], data


async def _end(process: Process, mark: str, *, complete: bool) -> None:
    """End the command and wait for it. `complete`: the child process has done so already."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_GRACE):
            await process.communicate()
    except TimeoutError:  # The command has stopped the child process.
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if not complete:
        # It may have been killed before it had ended what the command started.
        await asyncio.to_thread(_kill_marked, mark)


def _kill_marked(mark: str) -> None:
    """Kill the processes with that mark in their environment, until there are none."""
    expected = f"{_MARK}={mark}".encode()
    for _ in range(100):
        found = 0
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if expected in path.read_bytes().split(b"\0"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    found += 1
        if not found:
            return


def _result(parts: Mapping[bytes, bytes], seconds: int) -> ToolResult:
    if b"e" not in parts:
        return ToolResult("[the command ended the process that ran it]", is_error=True)
    end = json.loads(parts[b"e"])
    code, omitted = int(end["code"]), int(end["omitted"])
    if omitted:
        left_out = f"\n[{omitted} bytes of output are left out]\n"
        text = _decoded(parts[b"h"]) + left_out + _decoded(parts[b"t"])
    else:
        text = _decoded(parts[b"h"] + parts[b"t"])
    if end["timeout"]:
        note = f"[ended after {seconds} seconds, the time limit of this call]"
    elif code < 0:
        note = f"[ended by signal {-code}]"
    else:
        note = f"[exit code {code}]" if code else "" if text else "[no output]"
    gap = "\n" if text and note and not text.endswith("\n") else ""
    return ToolResult(text + gap + note, is_error=bool(end["timeout"] or code))


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")
