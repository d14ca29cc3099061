"""The sandbox of a server that is a program."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...domain.agents import Agent
from ...domain.ports import Sandbox
from ...domain.ports.sandbox import SandboxUnavailable
from ...domain.settings import McpServerSettings
from ...domain.tools import SandboxPolicy
from .errors import ServerUnavailable


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the processes of a server may reach: agents with equal ones share a process."""

    policy: SandboxPolicy
    workspace: str

    @classmethod
    def of(cls, server: McpServerSettings, agent: Agent) -> Confinement | None:
        """For the calls of that agent; None where the server runs without a sandbox."""
        if server.url:
            return None
        policy = server.sandbox.of_agent(agent.sandbox)
        if not policy.confines:
            return None
        if server.cwd is not None:
            policy = replace(policy, read=(*policy.read, server.cwd))
        return cls(policy, agent.workspace)


@dataclass(frozen=True, slots=True)
class Confiner:
    """Confines the program of a server."""

    sandbox: Sandbox
    confinement: Confinement

    async def command_line(self, argv: Sequence[str], cwd: str | None) -> list[str]:
        """Raises ServerUnavailable."""
        one = self.confinement
        try:
            return await self.sandbox.confined(
                one.policy, one.workspace, _absolute(argv), directory=cwd or ""
            )
        except SandboxUnavailable as error:
            raise ServerUnavailable(error.message.rstrip(".")) from error


def _absolute(argv: Sequence[str]) -> list[str]:
    return [os.path.abspath(argv[0]), *argv[1:]]
