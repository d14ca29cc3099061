"""`sandbox` of agents, and of servers of tools."""

from __future__ import annotations

from typing import Literal

from .fields import Count, PathText, Section, setting


class SandboxLimitSettings(Section):
    ours = True

    max_memory_mb: Count | None = setting(None, addition=True)
    """Megabytes (of 1,048,576 bytes) of memory, of each process and of all together. Left out:
    4096."""
    max_cpu_seconds: Count | None = setting(None, addition=True)
    """Seconds of processor time of each process. Left out: 600 for commands, no limit for servers
    of tools."""
    max_file_mb: Count | None = setting(None, addition=True)
    """Megabytes of each file that is written. Left out: 1024."""
    max_processes: Count | None = setting(None, addition=True)
    """Processes and threads at the same time. Left out: 512."""
    max_temporary_mb: Count | None = setting(None, addition=True)
    """Megabytes of files in each temporary folder, which are kept in memory. Left out: 256."""


class SandboxKeys(Section):
    network: bool | None = setting(None, addition=True)
    """Whether processes have the network of this machine, the Gateway's own ports and those of the
    local network included. Left out: no."""
    read: list[PathText] | None = setting(None, addition=True, machine="launch")
    """Files and directories that can be read, besides the system's programs."""
    write: list[PathText] | None = setting(None, addition=True, machine="launch")
    """Files and directories that can be read and written, besides the workspace, such as the cache
    of a package manager."""
    limits: SandboxLimitSettings = setting(SandboxLimitSettings, addition=True)
    """Limits of the processes of one command, or of one server."""


class AgentSandbox(SandboxKeys):
    mode: Literal["off", "bubblewrap", "non-main", "all"] | None = None
    """How `exec`, and the MCP servers that are programs, are confined: not at all, or with
    bubblewrap. The modes `non-main` and `all` of other programs do not exist here: they have these
    tools refuse to run. Left out: `off`."""


class ServerSandbox(SandboxKeys):
    mode: Literal["off", "bubblewrap"] | None = setting(None, addition=True)
    """Whether the program is confined, whichever agent uses it. Left out: as the commands of the
    agent that uses it. `network` replaces that of the agent, as `limits` do key by key; `read` and
    `write` come in addition."""
