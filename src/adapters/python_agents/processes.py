"""Agents in processes of their own."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from itertools import count

from ...domain.agents import PythonTarget
from ...domain.errors import AgentFailed, FailureKind, InvalidRequest, ModelFailed
from . import sessions
from .errors import RemoteFailure, TargetInvalid
from .models import current_access, environment
from .runs import ENDS, AgentEvent, AgentRun
from .threads import LoopBlocked
from .wire import (
    MOST_BYTES,
    MOST_SENT,
    BrokenFrame,
    Frame,
    dump_run,
    frame_of,
    load_events,
    read_frame,
)

logger = logging.getLogger(__name__)

_GRACE = 2.0
"""Seconds that a run gets to end once it is cancelled, before its process is killed."""
_LOOKS = 0.25
"""Seconds between two looks at the memory of a process."""
_STEADY = 60.0
"""Seconds after which a process that dies is started again at once."""
_MOST_PATIENCE = 60.0
_WORKER = "opensoul.adapters.python_agents.worker"
_LAST = 1.0
"""Seconds in which the last output of a dead process is read: a child of it may hold that open."""
_MOST_LINES = 1_000
"""Printed lines that are logged in a second."""
_MOST_PROCESSES = 128
"""Processes that the code of an agent may have at the same time."""
_MOST_HELD = MOST_SENT + MOST_BYTES
"""Bytes of a run that wait for their reader: a process sends one frame beyond MOST_SENT at most."""


class _Queue(asyncio.Queue[Frame | None]):
    """The frames of a run; None behind the last one of a dead process."""

    held = 0
    """Bytes since the process was asked to go on."""


class Worker:
    """One worker process. `ended` is set once it is dead, and `why` then says what it died of."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        writer: asyncio.StreamWriter,
        lifeline: int,
        most_held: int,
        hint: str,
    ) -> None:
        self._process = process
        self._writer = writer
        self._lifeline = lifeline
        """The end of a pipe, on whose other end something waits that kills the process."""
        self._most_held = most_held
        self._hint = hint
        self._runs: dict[int, _Queue] = {}
        """By numbers: a run that goes on behind an approval is called again under the same id."""
        self._numbers = count(1)
        self.loaded: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.loaded.add_done_callback(_retrieve)
        self.started_at = time.monotonic()
        self.why = ""
        self._retired = False
        self._cancelling = 0
        self.settled = asyncio.Event()
        """No run is being stopped, which may kill the process."""
        self.settled.set()
        self.ended = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(
        cls, target: PythonTarget, env: Mapping[str, str], *, most_held: int = _MOST_HELD
    ) -> Worker:
        """Start a process and have it load the agent. `env` adds to the environment."""
        ours, theirs = socket.socketpair()
        # A pipe of asyncio's would hide the death of the process while its children hold it open.
        read, write = os.pipe()
        printed = os.fdopen(read, "rb", 0)
        watched, lifeline = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(
                    target.python or sys.executable,
                    "-m",
                    _WORKER,
                    str(watched),
                    str(theirs.fileno()),
                ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(watched, theirs.fileno()),
                start_new_session=True,
                env={**os.environ, **env},
            )
        except BaseException:
            ours.close()
            printed.close()
            os.close(lifeline)
            raise
        finally:
            theirs.close()
            os.close(write)
            os.close(watched)
        hint = ""
        if target.python:
            hint = f" Is opensoul installed for {target.python}? The log has what it printed."
        reader, writer = await asyncio.open_connection(sock=ours)
        output = asyncio.StreamReader()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), printed
        )
        worker = cls(process, writer, lifeline, most_held, hint)
        worker._tasks = [
            asyncio.create_task(worker._read(reader)),
            asyncio.create_task(worker._log(output, target)),
            asyncio.create_task(worker._watch(target.memory_bytes)),
        ]
        worker._tasks.append(asyncio.create_task(worker._follow(pipe, *worker._tasks)))
        worker._send(op="load", target=target.target, path=target.path)
        return worker

    @property
    def is_usable(self) -> bool:
        """It is alive, and is not being killed."""
        return not self.why and not self.ended.is_set()

    def begin(self, run: AgentRun) -> tuple[int, _Queue]:
        """The number of a run in this process, and its frames; None ends them when the process is
        dead."""
        number, queue = next(self._numbers), _Queue()
        if self.ended.is_set():
            queue.put_nowait(None)
            return number, queue
        self._send(op="run", run=number, of=dump_run(run))
        self._runs[number] = queue
        return number, queue

    def accept(self, number: int) -> None:
        """The events that the process of a run waits for are processed."""
        if (queue := self._runs.get(number)) is not None:
            queue.held = 0
        self._send(op="accepted", run=number)

    def finished(self, number: int) -> None:
        """The run needs nothing more of the process."""
        self._runs.pop(number, None)
        if self._retired and not self._runs:
            self.kill("it has no run left")

    def retire(self) -> None:
        """End when the last run has ended."""
        self._retired = True

    async def cancel(self, number: int, queue: _Queue) -> None:
        """Stop a run; a process that does not stop it is killed."""
        if number not in self._runs:
            return
        self._send(op="cancel", run=number)
        self._cancelling += 1
        self.settled.clear()
        try:
            async with asyncio.timeout(_GRACE):
                while (frame := await queue.get()) is not None and frame["op"] == "events":
                    pass
        except TimeoutError:
            self.kill("a run of it did not stop")
        else:
            if frame is not None and frame.get("stuck"):
                self.kill("a run of it did not stop")
        finally:
            self._cancelling -= 1
            if not self._cancelling:
                self.settled.set()
            self.finished(number)

    def kill(self, why: str) -> None:
        """Kill the process and its children."""
        if self._process.returncode is None and not self.why:
            self.why = why
            self._kill_all()

    def _kill_all(self) -> None:
        """Kill what is alive of the process and its children."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Kill the process and return when it is dead."""
        self.kill("the Gateway has ended it")
        await self.ended.wait()

    def _send(self, **fields: object) -> None:
        if not self._writer.is_closing():
            self._writer.write(frame_of(**fields))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while (read := await read_frame(reader)) is not None:
                self._take(*read)
        except (BrokenFrame, KeyError, TypeError) as error:
            self.kill(f"it sent what cannot be read ({error})")

    async def _follow(
        self,
        pipe: asyncio.BaseTransport,
        reading: asyncio.Task[None],
        logging: asyncio.Task[None],
        *others: asyncio.Task[None],
    ) -> None:
        """Wait for the end of the process, and end all that belongs to it.

        A process whose socket is closed can do nothing any more. One that is dead may have left
        children, which hold its socket open.
        """
        exiting = asyncio.ensure_future(self._process.wait())
        await asyncio.wait({reading, exiting}, return_when=asyncio.FIRST_COMPLETED)
        self._kill_all()
        code = await exiting
        await asyncio.wait({reading, logging}, timeout=_LAST)
        for task in (reading, logging, *others):
            task.cancel()
        self.why = self.why or _ending(code)
        self._writer.close()
        os.close(self._lifeline)
        pipe.close()
        self.ended.set()
        if not self.loaded.done():
            self.loaded.set_exception(TargetInvalid(f"Its process died: {self.why}.{self._hint}"))
        for queue in self._runs.values():
            queue.put_nowait(None)
        self._runs.clear()

    def _take(self, frame: Frame, size: int) -> None:
        match frame["op"]:
            case "loaded":
                if not self.loaded.done():
                    self.loaded.set_result(str(frame["what"]))
            case "invalid":
                if not self.loaded.done():
                    error = TargetInvalid(str(frame["message"]))
                    if frame["details"]:
                        error.__cause__ = RemoteFailure(str(frame["details"]))
                    self.loaded.set_exception(error)
            case "events" | "ended" | "failed" | "blocked":
                queue = self._runs.get(frame["run"])
                if queue is not None:
                    queue.put_nowait(frame)
                    queue.held += size
                    if queue.held > self._most_held:
                        self.kill("it sent more than it was asked for")
            case op:
                raise BrokenFrame(f"an operation {op!r}")

    async def _log(self, output: asyncio.StreamReader, target: PythonTarget) -> None:
        """What the agent prints, line by line."""
        extra = {"target": target.target}
        second, lines = 0.0, 0
        while True:
            try:
                line = await output.readline()
            except ValueError:  # Longer than the buffer; the rest follows.
                continue
            if not line:
                return
            if time.monotonic() - second > 1.0:
                if lines > _MOST_LINES:
                    logger.info("%d more lines are left out", lines - _MOST_LINES, extra=extra)
                second, lines = time.monotonic(), 0
            lines += 1
            if lines <= _MOST_LINES:
                text = line.decode("utf-8", "replace").rstrip()
                logger.info("an agent printed: %s", text, extra=extra)
            if not lines % 100:  # Lines that are there already do not suspend this task.
                await asyncio.sleep(0)

    async def _watch(self, limit: int | None) -> None:
        """Kill the process when it and its children use more memory, or are more, than they may."""
        others: list[int] = []
        while True:
            await asyncio.sleep(_LOOKS)
            try:
                used = sessions.resident(self._process.pid)
            except OSError:  # It is dead, or the system is not Linux.
                return
            # The process that watches the Gateway is one of the others.
            if len(others) > 1 or sessions.has_children(self._process.pid):
                others, more = await asyncio.to_thread(self._others, limit is not None)
                used += more
            if limit is not None and used > limit:
                self.kill(f"it used more than {limit // 1024**2} MB of memory")
            elif len(others) > _MOST_PROCESSES:
                self.kill(f"it had more than {_MOST_PROCESSES} processes")

    def _others(self, measures: bool) -> tuple[list[int], int]:
        """The other processes of its session, and their memory."""
        others = list(sessions.members(self._process.pid))
        return others, sum(map(sessions.proportional, others)) if measures else 0


class ProcessHost:
    """A worker process, which is started again by the next run after it has died; with growing
    pauses where it dies soon after its start."""

    def __init__(self, target: PythonTarget) -> None:
        self._target = target
        self._env: Mapping[str, str] = {}
        self._worker: Worker | None = None
        self._blocked: list[Worker] = []
        self._starting = asyncio.Lock()
        self._deaths = 0
        self._not_before = 0.0

    async def load(self) -> str:
        self._env = environment(current_access())
        worker = await self._alive()
        return await asyncio.shield(worker.loaded)

    async def stream(self, run: AgentRun) -> AsyncGenerator[list[AgentEvent]]:
        blocked = True
        while blocked:
            blocked = False
            worker = await self._alive()
            try:
                await asyncio.shield(worker.loaded)
            except TargetInvalid as error:
                message = f"The agent `{run.agent_id}` cannot be loaded; the log says why."
                raise AgentFailed(message) from error
            async with aclosing(_read(worker, run)) as batches:
                try:
                    async for batch in batches:
                        yield batch
                except LoopBlocked:
                    self._replace(worker, run)
                    blocked = True

    async def close(self) -> None:
        for worker in (*self._blocked, self._worker):
            if worker is not None:
                await worker.close()

    def _replace(self, worker: Worker, run: AgentRun) -> None:
        """Give this run and later ones another process."""
        logger.error(
            "the code of an agent blocks its event loop; later runs get another process",
            extra={"agent": run.agent_id, "run": run.run_id, "target": self._target.target},
        )
        worker.retire()
        self._blocked = [one for one in (*self._blocked, worker) if not one.ended.is_set()]
        if self._worker is worker:
            self._worker = None

    async def _alive(self) -> Worker:
        """The worker, started again where it is dead."""
        async with self._starting:
            worker = self._worker
            if worker is not None:
                await worker.settled.wait()
                if worker.is_usable:
                    return worker
                await worker.ended.wait()
                self._count_death(worker)
                await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            self._worker = await self._started()
            return self._worker

    async def _started(self) -> Worker:
        python = self._target.python
        try:
            return await Worker.start(self._target, self._env)
        except OSError as error:
            if not python:
                raise
            message = f"The interpreter {python} cannot be started: {error.strerror}."
            raise TargetInvalid(message) from None

    def _count_death(self, worker: Worker) -> None:
        now = time.monotonic()
        self._deaths = 0 if now - worker.started_at > _STEADY else self._deaths + 1
        pause = 0.0 if self._deaths < 2 else min(_MOST_PATIENCE, 2.0 ** (self._deaths - 2))
        self._not_before = now + pause
        extra = {"target": self._target.target, "pause": pause}
        logger.error("the process of an agent died: %s", worker.why, extra=extra)


async def _read(worker: Worker, run: AgentRun) -> AsyncGenerator[list[AgentEvent]]:
    """The events of a run in a process. Raises LoopBlocked where it has not begun."""
    number, queue = worker.begin(run)
    try:
        while True:
            frame = await queue.get()
            if frame is None:
                raise AgentFailed(f"The process of the agent `{run.agent_id}` died: {worker.why}.")
            if frame["op"] == "blocked":
                worker.finished(number)
                raise LoopBlocked
            if frame["op"] == "failed":
                worker.finished(number)
                raise _failure(frame, run)
            if frame["op"] == "ended":
                worker.finished(number)
                return
            events = load_events(frame["events"])
            ends = bool(events) and isinstance(events[-1], ENDS)
            if ends:
                worker.finished(number)
            yield events
            if ends:
                return
            if frame.get("waits"):
                worker.accept(number)
            if not queue.empty():  # What is there already does not suspend this task.
                await asyncio.sleep(0)
    except BrokenFrame as error:
        worker.kill(f"it sent {error}")
        raise AgentFailed(
            f"The process of the agent `{run.agent_id}` sent events that cannot be read."
        ) from error
    finally:
        await worker.cancel(number, queue)


def _failure(frame: Frame, run: AgentRun) -> Exception:
    """The error of a run, with the traceback of the process as its cause."""
    name, message = str(frame["name"]), str(frame["message"])
    logger.error(
        "an agent failed",
        exc_info=RemoteFailure(str(frame["details"])),
        extra={"agent": run.agent_id, "run": run.run_id},
    )
    if frame["kind"] is not None:
        why = message or f"The model of the agent `{run.agent_id}` failed: {name}."
        return ModelFailed(FailureKind(frame["kind"]), why)
    if name == InvalidRequest.__name__:
        param = frame["param"]
        return InvalidRequest(message, param=param if isinstance(param, str) else None)
    if message:
        return AgentFailed(message)
    return AgentFailed(
        f"The agent `{run.agent_id}` failed with {name}; the Gateway's log says where."
    )


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def _retrieve(future: asyncio.Future[str]) -> None:
    """Nobody may wait for it."""
    if not future.cancelled():
        future.exception()
