"""Confining the processes that agents start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..errors import GatewayError
from ..tools import SandboxPolicy


class SandboxUnavailable(GatewayError):
    """A process cannot be confined as the policy demands, so that it must not be started; the
    message says why."""

    code = "sandbox_unavailable"


class Sandbox(Protocol):
    async def problem(self, policy: SandboxPolicy, workspace: str) -> str:
        """Why `confined` would refuse; empty if it would not. The workspace may be missing."""
        ...

    async def confined(
        self, policy: SandboxPolicy, workspace: str, argv: Sequence[str], *, directory: str = ""
    ) -> list[str]:
        """The command line that runs `argv` in the sandbox, with the environment of its caller.

        `argv` begins with an absolute path. It runs in `directory`, by default the workspace. The
        process is to be started in a session of its own; when it is killed, everything in the
        sandbox ends. Raises SandboxUnavailable.
        """
        ...
