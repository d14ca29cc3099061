"""Agents that are plain functions, and the stream of any target."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing
from typing import Any, cast

from ...domain.errors import AgentFailed
from ...domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ...domain.runs import (
    CONTEXT_EVENTS,
    TERMINAL,
    Answered,
    ClientCalls,
    Resumed,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    consumes,
)
from ...domain.sessions import estimate_all
from .answer_messages import AnswerMessages
from .portions import PORTION, Portions, waits_behind
from .recognition import Frameworks, unwrapped
from .runs import ENDS, YIELDED, AgentEvent, AgentEvents, AgentRun
from .threads import CallThread, taken
from .wire import BrokenFrame, checked

_END = object()


async def stream(
    target: object, run: AgentRun, frameworks: Frameworks
) -> AsyncGenerator[list[AgentEvent]]:
    """The events of a target; the last one ends the run. Part of a Pump's stream: behind events
    that begin a tool, and behind many characters, it goes on once they are stored.

    What a function returns decides what it was: a text is the answer, and an agent of a framework
    is called with the run. Code that is not asynchronous runs in threads of its own.
    """
    found = frameworks.of(target)
    if found is None:
        function = cast(Callable[[AgentRun], object], target)
        result = await _called(function, run)
        if (found := frameworks.of(result)) is not None:
            target = result
        else:
            async with aclosing(_of_function(result, run)) as events:
                async for batch in events:
                    yield batch
            return
    portions = Portions(run.agent_id)
    events_of = found[1].run(target, run)
    async with aclosing(events_of):
        async for item in events_of:
            for batch in portions.of(_checked(item)):
                yield batch
                if isinstance(batch[-1], ENDS):
                    return
                if waits_behind(batch):
                    await taken()
    raise AgentFailed(f"The agent `{run.agent_id}` ended without an answer.")


async def _called(function: Callable[[AgentRun], object], run: AgentRun) -> object:
    plain = unwrapped(function)
    is_quick = (
        inspect.isasyncgenfunction(plain)
        or inspect.iscoroutinefunction(plain)
        or inspect.isgeneratorfunction(plain)
    )
    result = function(run) if is_quick else await _in_thread(function, run)
    return await result if inspect.isawaitable(result) else result


async def _in_thread(function: Callable[[AgentRun], object], run: AgentRun) -> object:
    thread = CallThread(f"agent {run.agent_id}")
    try:
        return await thread.call(function, run)
    finally:
        thread.close()


@consumes(
    TextDelta,
    ClientCalls,
    ToolStarted,
    ToolFinished,
    ignores=(
        *(Started, Waiting, Resumed, ReasoningDelta, ToolProgress),
        *(StepDone, *CONTEXT_EVENTS, *TERMINAL),
    ),
)
async def _of_function(result: object, run: AgentRun) -> AsyncGenerator[list[AgentEvent]]:
    """The events of a plain function, whose answer is the text that it yields or returns, with the
    tool calls that it yields."""
    said = AnswerMessages()
    texts = said.texts
    portions = Portions(run.agent_id)
    usage: Usage | None = None
    calls: tuple[ClientCalls, ...] = ()
    items = result if isinstance(result, AsyncGenerator) else _items(result)
    async with aclosing(items):
        async for item in items:
            # The usual case, without the work of the others.
            if type(item) is str and len(item) <= PORTION <= portions.left:
                if item:
                    portions.left -= len(item)
                    delta = TextDelta(item)
                    texts.append(item)
                    yield [delta]
                continue
            batch: list[AgentEvent] = []
            for event in _checked(item):
                if isinstance(event, Usage):
                    usage = event if usage is None else usage + event
                    continue
                if isinstance(event, TextDelta):
                    texts.append(event.text)
                elif isinstance(event, ToolStarted):
                    said.started(event)
                elif isinstance(event, ToolFinished):
                    said.finished(event)
                elif isinstance(event, ClientCalls):
                    calls = (*calls, event)
                    continue
                batch.append(event)
                if isinstance(event, ENDS):
                    break
            for portion in portions.of(batch):
                yield portion
                if isinstance(portion[-1], ENDS):
                    return
                if waits_behind(portion):
                    await taken()
    messages = said.ended([call for one in calls for call in one.calls])
    stop = StopReason.TOOL_CALLS if calls else StopReason.STOP
    if usage is None:
        usage = Usage(estimate_all(run.messages), estimate_all(messages), estimated=True)
    answered = Answered(messages, stop, usage, f"python/{run.agent_id}")
    end: list[AgentEvent] = [*calls, answered]
    yield end


async def _items(result: object) -> AsyncGenerator[AgentEvents]:
    """What a function yields, or has returned."""
    if isinstance(result, str):
        yield result
    elif isinstance(result, AsyncIterator):
        async for item in result:
            yield item
    elif isinstance(result, Iterator):
        async with aclosing(_in_one_thread(result)) as items:
            async for item in items:
                yield item
    else:
        raise AgentFailed(
            f"The function of an agent returned {_kind(result)}; it has to return or yield text, "
            "events of opensoul.api, or an agent."
        )


async def _in_one_thread(iterator: Iterator[AgentEvents]) -> AsyncGenerator[AgentEvents]:
    """What an iterator yields, all of it from the same thread."""
    thread = CallThread("iterator of an agent")
    is_executed = False
    try:
        while True:
            is_executed = True
            item: Any = await thread.call(next, iterator, _END)
            is_executed = False
            if item is _END:
                return
            yield item
    finally:
        if isinstance(iterator, Generator):
            if is_executed:
                thread.post(iterator.close)  # When it yields, which may be never.
            else:
                await thread.call(iterator.close)
        thread.close()


def _checked(item: AgentEvents) -> list[AgentEvent]:
    """The events that an agent has yielded together. Raises AgentFailed for anything else."""
    if isinstance(item, str):
        return [TextDelta(item)] if item else []
    if isinstance(item, YIELDED):
        try:
            return [checked(item)]
        except BrokenFrame as error:
            raise AgentFailed(f"An agent yielded {_kind(item)} with wrong fields.") from error
    if isinstance(item, list | tuple):
        return [event for one in item for event in _checked(one)]
    raise AgentFailed(
        f"An agent yielded {_kind(item)}; it has to yield text or events of opensoul.api."
    )


def _kind(value: object) -> str:
    return "None" if value is None else f"an object of the type {type(value).__qualname__}"
