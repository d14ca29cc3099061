"""Asking an agent: one question, its answer as it comes, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ...terminal import Stream

if TYPE_CHECKING:
    from ....client import Options
    from ....client.connection_manager import OnState

_STOP_PATIENCE = 5.0
"""Seconds that stopping a run may take after Ctrl-C."""
_AGAIN = 0.05
"""Seconds until a run that is not known yet is looked for again."""


@dataclass(frozen=True, slots=True)
class Question:
    """`key` is the id that the Run gets: who knows it can stop the Run whenever it began."""

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
    """Prints an answer as it comes, where that is wanted."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._stream = Stream()

    def text(self, delta: str) -> None:
        """A piece of the answer."""
        if self._wanted:
            self._stream.write(delta)

    def end(self) -> None:
        """End the line, so that the next output begins on a line of its own."""
        self._stream.end()


class Asking(Protocol):
    """A question on its way."""

    question: Question

    async def ended(self) -> Ended:
        """Ask, and return how it ended."""
        ...

    async def stop(self) -> bool:
        """Stop the Run, if it has begun. False where it may go on."""
        ...


async def until_ended(asking: Asking, *, interrupts: Sequence[str] = ("SIGINT",)) -> Ended:
    """How it ended; where it was interrupted, `error` is what became of the Run.

    `interrupts`: the names of the signals that interrupt it.
    """
    with _interrupts(interrupts) as interrupted:
        answer = asyncio.create_task(asking.ended())
        wish = asyncio.create_task(interrupted.wait())
        try:
            await asyncio.wait({answer, wish}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return await answer
            return await _interrupted(asking, answer)
        finally:
            for task in (answer, wish):
                task.cancel()
            await asyncio.gather(answer, wish, return_exceptions=True)


async def _interrupted(asking: Asking, answer: asyncio.Task[Ended]) -> Ended:
    stopping = asyncio.create_task(asking.stop())
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
        f"opensoul runs abort {asking.question.key}",
    )


def ask(connected: Callable[[], Awaitable[Ended]]) -> Ended:
    """Run it to its end."""

    async def run() -> Ended:
        return await connected()

    return asyncio.run(run())


@dataclass(slots=True)
class OverTheWire:
    """A question to a Gateway."""

    client: Any
    question: Question
    show: Show

    async def ended(self) -> Ended:
        from ....client import TextDelta

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
                # It may be about to begin; who waits for its answer knows when it is not.
                await asyncio.sleep(_AGAIN)
            except ClientError:
                return False
            else:
                return True


def over_the_wire(
    options: Options, question: Question, show: Show, on_state: OnState | None = None
) -> Callable[[], Awaitable[Ended]]:
    """Asks the Gateway; raises what a client raises."""

    async def connected() -> Ended:
        from ....client import Client

        async with Client(options, on_state=on_state) as client:
            return await until_ended(OverTheWire(client, question, show))

    return connected


@contextmanager
def _interrupts(names: Sequence[str]) -> Iterator[asyncio.Event]:
    """Set by the first of these signals; a second one ends the process at once."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    known = [signal.Signals[name] for name in names if name in signal.Signals.__members__]
    # Whoever ignores SIGHUP before the start, as nohup does, wants the command to go on.
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
        # Not in this thread or on this system: Ctrl-C ends it as it ends any program.
        yield interrupted
        return
    try:
        yield interrupted
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
