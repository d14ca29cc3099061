"""Figures of a process: processor time, memory, bytes written. Linux only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reading:
    """Figures at one moment. `cpu`: seconds of all threads since the start."""

    cpu: float
    written: int
    """Bytes written to storage, as far as the system reports them."""


def reading(pid: int) -> Reading:
    """Raises OSError if the process has ended."""
    # The name, in parentheses, may contain blanks.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Reading((int(fields[11]) + int(fields[12])) / _TICKS, _written(pid))


def memory(pid: int) -> dict[str, int]:
    """Present and peak resident memory in bytes. Raises OSError."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return {
        "rss": int(status["VmRSS"].split()[0]) * 1_024,
        "peak_rss": int(status["VmHWM"].split()[0]) * 1_024,
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
