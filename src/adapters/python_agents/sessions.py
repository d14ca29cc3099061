"""The processes of a session as Linux shows them: a worker and those that it has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_SESSION = 3
"""The place of the session among the fields behind the name of a process."""


def resident(pid: int) -> int:
    """The bytes of memory that a process uses. Raises OSError where it is dead, and elsewhere than
    on Linux."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def has_children(pid: int) -> bool:
    """Whether a process has any. A few readings: cheap enough for an event loop."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                if Path(f"/proc/{pid}/task/{thread}/children").read_bytes():
                    return True
    return False


def members(leader: int) -> Iterator[int]:
    """The processes of the session of a leader, without the leader. Looks at all processes."""
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == leader:
            continue
        with suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[_SESSION]) == leader:
                yield int(name)


def proportional(pid: int) -> int:
    """The bytes of memory of a process, of which those that others use too count as a part."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
