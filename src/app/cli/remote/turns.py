"""One turn with an agent: the message, the streamed answer, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ...terminal import Stream, echo

if TYPE_CHECKING:
    from ....client import Options
    from ....client.connection_manager import OnState

_STOP_PATIENCE = 5.0
"""Seconds to wait for a run to stop after Ctrl-C."""
_AGAIN = 0.05
"""Seconds between attempts to abort a run that has not started."""


@dataclass(frozen=True, slots=True)
class Question:
    """`key`: the id of the Run, chosen by the client so that it can always be aborted."""

    message: str
    key: str
    agent_id: str | None = None
    session_key: str | None = None
    session_id: str | None = None
    thinking: str | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """`status`: ok, error, aborted or interrupted. `payload` is for programs."""

    status: str
    text: str = ""
    error: str = ""
    code: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)


class Show:
    """Prints an answer as it arrives, if wanted. `quiet`: prints nothing else."""

    def __init__(self, wanted: bool, *, quiet: bool = False) -> None:
        self._wanted = wanted
        self._quiet = quiet
        self._stream = Stream()

    def text(self, delta: str) -> None:
        """Print a piece of the answer."""
        if self._wanted:
            self._stream.write(delta)

    def waiting(self, reason: str, advice: str) -> None:
        """Report on standard error that the run waits."""
        if not self._quiet:
            self.end()
            echo(f"opensoul: {reason} {advice}", err=True)

    def end(self) -> None:
        """End the line, so that the next output begins on a line of its own."""
        self._stream.end()


class AskedQuestion(Protocol):
    """A question in progress."""

    question: Question

    async def ended(self) -> Ended:
        """Send the question, and return the outcome."""
        ...

    async def stop(self) -> bool:
        """Abort the Run. False if it may continue."""
        ...


async def until_ended(asked: AskedQuestion, *, interrupts: Sequence[str] = ("SIGINT",)) -> Ended:
    """The outcome; if interrupted, `error` is the state of the Run.

    `interrupts`: names of the signals that interrupt it.
    """
    with _interrupts(interrupts) as interrupted:
        answer = asyncio.create_task(asked.ended())
        interrupt = asyncio.create_task(interrupted.wait())
        try:
            await asyncio.wait({answer, interrupt}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return await answer
            return await _interrupted(asked, answer)
        finally:
            for task in (answer, interrupt):
                task.cancel()
            await asyncio.gather(answer, interrupt, return_exceptions=True)


async def _interrupted(asked: AskedQuestion, answer: asyncio.Task[Ended]) -> Ended:
    stopping = asyncio.create_task(asked.stop())
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_PATIENCE):
                await asyncio.wait({answer, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if answer.done() or await stopping:
                    await asyncio.wait({answer})
                    return Ended("interrupted", error="aborted")
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
    return Ended(
        "interrupted",
        error="interrupted; the Gateway could not be reached, so the run may continue: "
        f"opensoul runs abort {asked.question.key}",
    )


@dataclass(slots=True)
class _RemoteQuestion:
    """A question to a Gateway."""

    client: Any
    question: Question
    show: Show

    async def ended(self) -> Ended:
        from ....client import TextDelta, Waiting

        question = self.question
        run = await self.client.run_agent(
            question.message,
            agent_id=question.agent_id,
            session_key=question.session_key,
            session_id=question.session_id,
            thinking=question.thinking,
            timeout=question.timeout,
            idempotency_key=question.key,
        )
        async for event in run.events():
            if isinstance(event, TextDelta):
                self.show.text(event.text)
            elif isinstance(event, Waiting) and event.approval_id:
                how = f"Allow it with: opensoul approvals allow {event.approval_id}"
                self.show.waiting(event.reason, how)
        result = await run.result()
        return Ended(result.status, result.text, result.error, result.code, result.payload)

    async def stop(self) -> bool:
        from ....client import CallFailed, ClientError

        while True:
            try:
                await self.client.abort_run(self.question.key)
            except CallFailed as error:
                if error.reason != "run_not_found":
                    return True
                # It may be about to start; otherwise the answer arrives and ends the wait.
                await asyncio.sleep(_AGAIN)
            except ClientError:
                return False
            else:
                return True


async def ask_gateway(options: Options, question: Question, show: Show, on_state: OnState) -> Ended:
    """Send the question to the Gateway. Raises the errors of a client."""
    from ....client import Client

    async with Client(options, on_state=on_state) as client:
        return await until_ended(_RemoteQuestion(client, question, show))


@contextmanager
def _interrupts(names: Sequence[str]) -> Iterator[asyncio.Event]:
    """An event, set by the first of these signals; a second one ends the process."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    known = [signal.Signals[name] for name in names if name in signal.Signals.__members__]
    # SIGHUP that is ignored at the start, as by nohup, stays ignored.
    numbers = [
        number
        for number in known
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN
    ]

    def on_interrupt(number: int) -> None:
        if interrupted.is_set():
            os._exit(128 + number)
        interrupted.set()

    try:
        for number in numbers:
            loop.add_signal_handler(number, on_interrupt, number)
    except (NotImplementedError, RuntimeError):
        # Not supported in this thread or system: the default handlers stay.
        yield interrupted
        return
    try:
        yield interrupted
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
