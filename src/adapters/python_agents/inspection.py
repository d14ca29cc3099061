"""Imports an agent in a process of its own, to see whether it can be served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ...domain.agents import PythonTarget
from .errors import TargetInvalid
from .processes import ProcessHost
from .recognition import PLAIN

_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an import has shown. `problem`: why the agent cannot be served, and what to change;
    `traceback`: of what its module raised."""

    seconds: float
    framework: str = ""
    kind: str = ""
    problem: str = ""
    traceback: str = ""


async def inspected(
    target: PythonTarget, *, env: Mapping[str, str] | None = None, patience: float = _PATIENCE
) -> Inspection:
    """Import the agent. Its process is killed at the end, or after `patience` seconds. Raises
    OSError where no process can be started."""
    host = ProcessHost(target, env)
    begun = time.monotonic()
    try:
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
