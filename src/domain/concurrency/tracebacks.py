"""Errors without the frames that they passed through."""

from __future__ import annotations

import asyncio
from typing import Any


def drop_tracebacks(error: BaseException) -> None:
    """Remove the traceback of `error` and of every error behind it; to be called once it is logged.

    A traceback refers to frames, and a frame often to the error itself or to the task that ended
    with it. Such a cycle keeps all that the frames hold, the body of a request for example, until
    the garbage collector looks for it, which can take for ever.
    """
    pending, seen = [error], {id(error)}
    while pending:
        current = pending.pop()
        current.__traceback__ = None
        behind = [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            behind += current.exceptions
        for other in behind:
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                pending.append(other)


def drop_traceback_of(task: asyncio.Task[Any]) -> None:
    """The same for the error that an ended task has ended with, also for its cancellation.

    By `result`, not `exception`: the task has a reference of its own to the traceback, and gives
    that up when it raises the error.
    """
    try:
        task.result()
    except BaseException as error:  # Nothing is caught here: the task has ended already.
        drop_tracebacks(error)
