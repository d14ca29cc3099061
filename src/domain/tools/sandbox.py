"""What a command or a server of tools may reach of this machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

_MB = 1024 * 1024


class SandboxMode(StrEnum):
    OFF = "off"
    BUBBLEWRAP = "bubblewrap"
    NON_MAIN = "non-main"
    """Of other programs of the family: containers, which there are none of here."""
    ALL = "all"
    """As `non-main`."""


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Sizes are in bytes."""

    memory: int = 4096 * _MB
    """Of each process, and of all processes together."""
    cpu_seconds: int | None = 600
    """Processor time of each process; None: no limit."""
    file_size: int = 1024 * _MB
    """Of each file that is written."""
    processes: int = 512
    """Processes and threads at the same time."""
    temporary: int = 256 * _MB
    """Of the files in each temporary folder; they are kept in memory."""


@dataclass(frozen=True, slots=True)
class SandboxPolicy:
    """`read` and `write` are absolute paths besides the system and the workspace."""

    mode: SandboxMode = SandboxMode.OFF
    network: bool = False
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    limits: SandboxLimits = field(default_factory=SandboxLimits)

    @property
    def confines(self) -> bool:
        return self.mode is not SandboxMode.OFF


@dataclass(frozen=True, slots=True)
class ServerSandbox:
    """What a server's settings change in the policy of the agent that uses it; None: nothing."""

    mode: SandboxMode | None = None
    network: bool | None = None
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    limits: tuple[tuple[str, int], ...] = ()
    """Fields of SandboxLimits."""

    def of_agent(self, policy: SandboxPolicy) -> SandboxPolicy:
        """The policy of the server's process. It outlives the calls of many runs, so the limit of
        processor time for a command does not apply."""
        return replace(
            policy,
            mode=policy.mode if self.mode is None else self.mode,
            network=policy.network if self.network is None else self.network,
            read=(*policy.read, *self.read),
            write=(*policy.write, *self.write),
            limits=replace(replace(policy.limits, cpu_seconds=None), **dict(self.limits)),
        )
