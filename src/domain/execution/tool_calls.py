"""Runs the tool calls of a step, one by one or at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import cast

from ..messages import ToolCall
from ..ports import Toolbox
from ..runs import (
    Journal,
    RunnerEvent,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    result_of,
)
from ..tools import Repeat, ToolOutput, ToolResult
from .turn import OngoingTurn

_MOST_AT_ONCE = 8
_MOST_QUEUED = 64
"""Outputs that tools may be ahead of the followers."""
_MOST_SHOWN = 8_192
"""Characters of a tool's result in its event; the store has all of them."""

_Result = tuple[ToolCall, ToolResult]
_Item = tuple[ToolCall, ToolOutput | ToolResult | Exception]


async def run_calls(
    turn: OngoingTurn, toolbox: Toolbox, calls: Sequence[ToolCall]
) -> AsyncGenerator[list[RunnerEvent]]:
    """Run the calls and yield their events; at the same time where every tool allows it.

    A call is committed as begun before it is begun, and its result before it is yielded. At the
    time limit of the Run, calls that are going on are stopped, and the others are not begun.
    Closing this generator stops all of them.
    """
    specs = turn.specs
    tools = [specs.get(call.name) for call in calls]
    beside_others = all(tool is not None and tool.runs_beside_others for tool in tools)
    at_once = _MOST_AT_ONCE if beside_others else 1
    queue: asyncio.Queue[_Item] = asyncio.Queue(_MOST_QUEUED)
    waiting = deque(calls)
    running: dict[str, asyncio.Task[None]] = {}
    results: list[_Result] = []
    try:
        while True:
            begun = [waiting.popleft() for _ in range(min(len(waiting), at_once - len(running)))]
            if begun or results:
                journal = with_results(turn.journal, results)
                for call in begun:
                    tool = specs.get(call.name)
                    repeat = Repeat.UNSAFE if tool is None else tool.repeat
                    journal = journal.with_begun(call.id, repeat)
                await turn.commit(journal)
                events = result_events(results, journal)
                events += [
                    ToolStarted(call.id, turn.own(call).name, call.arguments) for call in begun
                ]
                yield events
            for call in begun:
                work = _run(turn, toolbox, call, queue)
                running[call.id] = asyncio.create_task(work, name=f"tool call {turn.key(call.id)}")
            if not running:
                return
            items = await _next_items(queue, turn.remaining_seconds())
            if items is None:
                await _stop(running.values())
                waiting.clear()
                items = _stopped(queue, [call for call in calls if call.id in running])
                turn.use_up_time()
            progress: list[RunnerEvent] = []
            results = []
            for call, item in items:
                if isinstance(item, ToolOutput):
                    progress.append(ToolProgress(call.id, item.text))
                    continue
                del running[call.id]
                if isinstance(item, Exception):
                    raise item
                results.append((call, item))
            if progress:
                yield progress
    finally:
        await _stop(running.values())


def with_results(journal: Journal, results: Iterable[_Result]) -> Journal:
    """The journal with these results of the last step's calls."""
    return journal.with_results(*(result_of(call, result) for call, result in results))


def result_events(results: Iterable[_Result], journal: Journal) -> list[RunnerEvent]:
    """The events for results that are stored in the journal. A call that was not begun starts and
    ends at once, so that followers know its name and its arguments."""
    begun = journal.steps[-1].begun
    events: list[RunnerEvent] = []
    for call, result in results:
        if call.id not in begun:
            events.append(ToolStarted(call.id, call.name, call.arguments))
        events.append(ToolFinished(call.id, result.is_error, _shown(result.text)))
    if events and not journal.steps[-1].open_calls:
        events.append(StepDone(len(journal.steps)))
    return events


def _shown(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "\u2026"


async def _run(
    turn: OngoingTurn, toolbox: Toolbox, call: ToolCall, queue: asyncio.Queue[_Item]
) -> None:
    """One call in a task of its own: what it puts out, and last its result or its exception.

    A task that was cancelled puts nothing more: nobody may be reading, and the queue may be full.
    """
    task = cast(asyncio.Task[None], asyncio.current_task())
    end: ToolResult | Exception = ToolResult("The tool ended without a result.", is_error=True)
    try:
        run = toolbox.run(turn.caller, turn.own(call), key=turn.key(call.id))
        async with aclosing(run) as outputs:
            async for output in outputs:
                if task.cancelling():
                    return
                if isinstance(output, ToolResult):
                    end = output
                    break
                await queue.put((call, output))
    except asyncio.CancelledError:
        if task.cancelling():
            raise
        end = ToolResult("The tool was cancelled from within.", is_error=True)
    except Exception as error:
        # The run's own task raises it again.
        end = error
    if not task.cancelling():
        await queue.put((call, end))


async def _next_items(queue: asyncio.Queue[_Item], seconds: float | None) -> list[_Item] | None:
    """All items that are there, at least one; None where none arrives within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            items = [await queue.get()]
    except TimeoutError:
        return None
    while not queue.empty():
        items.append(queue.get_nowait())
    return items


def _stopped(queue: asyncio.Queue[_Item], calls: Iterable[ToolCall]) -> list[_Item]:
    """What is left in the queue of calls whose tasks have ended, and a result for each of those
    that have none."""
    items = [queue.get_nowait() for _ in range(queue.qsize())]
    ended = {call.id for call, item in items if not isinstance(item, ToolOutput)}
    text = "stopped: the run has reached its time limit; it is not known what took effect"
    lost = [call for call in calls if call.id not in ended]
    return [*items, *((call, ToolResult(text, is_error=True)) for call in lost)]


async def _stop(tasks: Iterable[asyncio.Task[None]]) -> None:
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)
