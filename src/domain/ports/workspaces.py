"""The workspaces of agents: a directory each, with files that people write for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..errors import GatewayError

FILE_NAMES = (
    "AGENTS.md",
    "SOUL.md",
    "TOOLS.md",
    "IDENTITY.md",
    "USER.md",
    "HEARTBEAT.md",
    "BOOTSTRAP.md",
    "MEMORY.md",
    "memory.md",
)
"""The files of a workspace that clients may read and write; no others."""
MAX_FILE_BYTES = 1024 * 1024


class WorkspaceFailed(GatewayError):
    """The system does not let a workspace or a file in it be used; the message says why."""

    code = "workspace_failed"


@dataclass(frozen=True, slots=True)
class WorkspaceFile:
    """A file that is there. `updated_at`: Unix seconds."""

    name: str
    size: int
    updated_at: float


class Workspaces(Protocol):
    """The directories. Blocking. Names have to be of FILE_NAMES, ValueError for others.

    Nothing outside of a workspace is ever read or written, whatever links lie in it. Raises
    InvalidRequest for what is not a plain text in UTF-8 of at most MAX_FILE_BYTES, and
    WorkspaceFailed.
    """

    def ensure(self, workspace: str) -> bool:
        """Make the directory, for its owner alone. False when it was there already."""
        ...

    def find(self, workspace: str, name: str) -> WorkspaceFile | None:
        """The file; None when it is not there."""
        ...

    def read(self, workspace: str, name: str) -> tuple[WorkspaceFile, str] | None:
        """The file with its text."""
        ...

    def write(self, workspace: str, name: str, text: str) -> WorkspaceFile:
        """Make the file hold `text`, at once or not at all, for its owner alone; with the
        directory, where that is missing."""
        ...

    def retire(self, workspace: str) -> str | None:
        """Move the directory aside, to the name that is returned; nothing is deleted.

        None, and nothing happens, where it is missing, or not one that the Gateway made: those
        are called `workspace-<id>`, and lie where it keeps its state.
        """
        ...
