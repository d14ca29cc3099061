"""Whether bubblewrap works on this machine, and agents that are confined with it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from opensoul.adapters.sandbox import Bubblewrap
from opensoul.adapters.system.files import WorkspaceFiles
from opensoul.domain.tools import SandboxLimits, SandboxMode, SandboxPolicy
from tests.tools.builtin.calls import Caller, caller

CONFINED = SandboxPolicy(SandboxMode.BUBBLEWRAP)
PROBLEM = asyncio.run(Bubblewrap(os.environ).problem(CONFINED, "/nowhere"))
needs_bubblewrap = pytest.mark.skipif(bool(PROBLEM), reason=PROBLEM)
SYSTEM_PYTHON = "/usr/bin/python3"
needs_python = pytest.mark.skipif(
    not os.path.exists(SYSTEM_PYTHON), reason=f"There is no {SYSTEM_PYTHON} to attack with."
)


def limited(**limits: int) -> SandboxPolicy:
    return replace(CONFINED, limits=SandboxLimits(**limits))


def confined_caller(
    home: Path,
    policy: SandboxPolicy = CONFINED,
    *,
    path: str = os.environ["PATH"],
    variables: dict[str, str] | None = None,
    hidden: Callable[[], list[str]] | None = None,
) -> Caller:
    """An agent of a Gateway with that home directory, whose state is in it."""
    state = home / ".opensoul"
    env = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", **(variables or {})}
    files = WorkspaceFiles(state)
    sandbox = Bubblewrap(env, hidden=hidden or (lambda: [str(state)]), ensure=files.ensure)
    found = caller(state, env, sandbox=sandbox)
    found.agent = replace(found.agent, sandbox=policy)
    return found
