"""The process that runs one Python agent:
`python -m opensoul.adapters.python_agents.worker PIPE SOCKET`.

They are the numbers of a pipe that ends with the Gateway and of a socket to the Gateway. The end of
either ends the process. What the agent prints goes to the standard output and error of the process.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
import traceback
from contextlib import aclosing
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from ...domain.agents import PythonTarget
from ...domain.errors import GatewayError, InvalidRequest
from .errors import TargetInvalid, failure_kind, own_frames, raised_class
from .functions import stream
from .loading import load
from .recognition import Frameworks, described
from .runs import ENDS, begins_tool
from .threads import AgentThread, LoopBlocked, Pump
from .wire import MOST_SENT, dump_events, frame_of, load_run, read_frame

_PR_SET_PDEATHSIG = 1


class _Worker:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frameworks = Frameworks(lambda group: entry_points(group=group))
        self._target: object = None
        self._what = ""
        self._thread = AgentThread("agent")
        self._runs: dict[int, asyncio.Task[None]] = {}
        self._accepted: dict[int, asyncio.Event] = {}
        """By the numbers of runs: the Gateway has stored what was sent."""

    async def serve(self) -> None:
        while (read := await read_frame(self._reader)) is not None:
            frame, _ = read
            match frame["op"]:
                case "load":
                    await self._loaded(PythonTarget(frame["target"], frame["path"]))
                case "run":
                    number: int = frame["run"]
                    task = asyncio.create_task(self._run(number, frame["of"]))
                    self._runs[number] = task
                    task.add_done_callback(partial(self._forget, number))
                case "accepted":
                    if (accepted := self._accepted.get(frame["run"])) is not None:
                        accepted.set()
                case "cancel":
                    if (running := self._runs.get(frame["run"])) is not None:
                        running.cancel()

    def _forget(self, number: int, task: asyncio.Task[None]) -> None:
        del self._runs[number]
        self._accepted.pop(number, None)
        if task.cancelled():  # Before it has begun: it could not report that.
            self._send(op="ended", run=number)

    async def _loaded(self, target: PythonTarget) -> None:
        """Load the agent before any run, and report that."""
        try:
            # In the thread of the agent: what its module opens may belong to that.
            await self._thread.call(partial(self._load, target))
        except TargetInvalid as error:
            cause = error.__cause__
            details = "" if cause is None else _shown(cause)
            self._send(op="invalid", message=error.message, details=details)
        except Exception as error:  # A framework's adapter, or an attribute of the module.
            message = f"The agent cannot be loaded: {type(error).__name__}: {error}"
            self._send(op="invalid", message=message, details=_shown(error))
        else:
            self._send(op="loaded", what=self._what)

    def _load(self, target: PythonTarget) -> None:
        self._target = load(target)
        self._what = described(self._target, self._frameworks)

    async def _run(self, number: int, data: dict[str, Any]) -> None:
        make = partial(stream, self._target, load_run(data), self._frameworks)
        # What was yielded is sent, also when the agent blocks its loop behind that.
        pump = Pump(make, self._thread.loop)
        accepted = self._accepted[number] = asyncio.Event()
        sent = 0
        try:
            async with aclosing(pump.read()) as batches:
                async for batch in batches:
                    ends = isinstance(batch[-1], ENDS)
                    waits = not ends and (begins_tool(batch) or sent > MOST_SENT)
                    events = dump_events(batch)
                    sent += self._send(op="events", run=number, events=events, waits=waits)
                    await self._writer.drain()
                    if ends:
                        break
                    if waits:
                        await accepted.wait()
                        accepted.clear()
                        sent = 0
            self._send(op="ended", run=number)
        except asyncio.CancelledError:
            self._send(op="ended", run=number, stuck=pump.is_stuck)
        except LoopBlocked:
            self._send(op="blocked", run=number)
        except Exception as error:
            kind = failure_kind(error)
            self._send(
                op="failed",
                run=number,
                kind=None if kind is None else kind.value,
                name=raised_class(error),
                message=error.message if isinstance(error, GatewayError) else "",
                param=error.param if isinstance(error, InvalidRequest) else None,
                details=_shown(error),
            )

    def _send(self, **fields: object) -> int:
        """The number of bytes."""
        frame = frame_of(**fields)
        self._writer.write(frame)
        return len(frame)


def _shown(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(*own_frames(error)))
    except Exception as broken:  # Exceptions of the agent may have any `__getattr__`.
        return f"{type(error).__name__}, whose traceback cannot be shown: {type(broken).__name__}"


async def _main(fd: int) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    await _Worker(reader, writer).serve()


def _watch(gateway: int) -> None:
    """Fork a process that kills the group of this one when the Gateway dies: `gateway` is a pipe of
    which only the Gateway has the other end. Neither code that never ends nor its children outlive
    the Gateway."""
    if not os.fork():
        # No child of this process, whose code may wait for all its children.
        if not os.fork():
            keep = os.dup2(gateway, 0)
            os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
            os.read(keep, 1)
            os.killpg(0, signal.SIGKILL)
        os._exit(0)
    os.wait()
    os.close(gateway)


def main() -> None:
    """Serve until the Gateway closes the socket."""
    gateway, fd = int(sys.argv[1]), int(sys.argv[2])
    _watch(gateway)
    if sys.platform == "linux":  # Should the other process be killed.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    asyncio.run(_main(fd))
    os._exit(0)  # Threads of the agent may go on for ever.


if __name__ == "__main__":
    main()
