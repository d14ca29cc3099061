"""Imports an agent in a process of its own, to see whether it can be served."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ...domain.agents import PythonTarget
from .errors import TargetInvalid
from .models import provided
from .processes import ProcessHost
from .recognition import PLAIN

_PATIENCE = 60.0
_NO_MODELS = ("http://127.0.0.1:9/v1", "no-key")
"""What `opensoul.api.model` gives to agents that are only inspected."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an import has shown. `problem`: why the agent cannot be served, and what to change;
    `traceback`: of what its module raised."""

    seconds: float
    framework: str = ""
    kind: str = ""
    problem: str = ""
    traceback: str = ""


async def inspected(target: PythonTarget, *, patience: float = _PATIENCE) -> Inspection:
    """Import the agent. Its process is killed at the end, or after `patience` seconds. Raises
    OSError where no process can be started."""
    host = ProcessHost(target)
    begun = time.monotonic()
    try:
        # Agents may name models of the Gateway while they are imported, and call them in runs only.
        with provided(_NO_MODELS):
            async with asyncio.timeout(patience):
                what = await host.load()
    except TargetInvalid as error:
        details = "" if error.__cause__ is None else str(error.__cause__).strip()
        seconds = time.monotonic() - begun
        return Inspection(seconds, problem=error.message, traceback=details)
    except TimeoutError:
        problem = f"The import of the agent has not ended after {patience:g} s."
        return Inspection(time.monotonic() - begun, problem=problem)
    finally:
        await host.close()
    framework, colon, kind = what.partition(": ")
    if not colon:
        framework, kind = PLAIN, what
    return Inspection(time.monotonic() - begun, framework, kind)
