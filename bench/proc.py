"""What the system knows of a process: processor time, memory, bytes written. Linux only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reading:
    """A process at one moment. `cpu`: seconds, of all its threads, since it began."""

    cpu: float
    written: int
    """Bytes that it caused to be sent to the disk, as far as the system tells."""


def reading(pid: int) -> Reading:
    """Raises OSError when the process is gone."""
    # The name, in parentheses, may hold blanks.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Reading((int(fields[11]) + int(fields[12])) / _TICKS, _written(pid))


def memory(pid: int) -> dict[str, int]:
    """Resident memory now and at its highest, in bytes. Raises OSError."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    told = dict(line.split(":", 1) for line in lines)
    return {
        "rss": int(told["VmRSS"].split()[0]) * 1_024,
        "peak_rss": int(told["VmHWM"].split()[0]) * 1_024,
    }


def held(pid: int) -> dict[str, int]:
    """Open descriptors and threads. Raises OSError."""
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {
        "descriptors": descriptors,
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
    }


def _written(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except PermissionError:
        return 0
    return int(dict(line.split(": ", 1) for line in lines)["write_bytes"])
