"""`system.info` and `diagnostics.lanes`: the machine, and the queues of runs."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .....domain.access import Scope
from .....domain.ports import Clock
from .....domain.runs import RunQuery, RunStatus
from .....domain.services import Gateway
from ..connection import Call, Handler, Handlers, NoParams
from ..handshake import Facts

_MEMORY = Path("/proc/meminfo")
_MOST = 500
"""Runs that are looked at."""


@dataclass(frozen=True, slots=True)
class MachineMethods:
    """The handlers."""

    gateway: Gateway
    facts: Facts
    clock: Clock

    def handlers(self) -> Handlers:
        return {
            "system.info": Handler(NoParams, self._info),
            "diagnostics.lanes": Handler(NoParams, self._lanes),
        }

    async def _info(self, call: Call, params: NoParams) -> object:
        """Where the state directory is, is for administrators."""
        # A disk that does not answer holds up this answer and nothing else.
        told = await asyncio.to_thread(_machine, self.facts.state_dir)
        path = {"diskPath": self.facts.state_dir} if call.principal.may(Scope.ADMIN) else {}
        return {
            **told,
            **path,
            "machineName": self.facts.host,
            "hostname": self.facts.host,
            "pid": os.getpid(),
            "uptimeMs": max(0, int((self.clock() - self.facts.started_at) * 1_000)),
        }

    async def _lanes(self, call: Call, params: NoParams) -> object:
        """All runs share the slots of the lane `main`; each session has a lane of its own."""
        running = await self._sessions(call, RunStatus.RUNNING)
        queued = await self._sessions(call, RunStatus.QUEUED)
        lanes = {*running, *queued}
        dynamic = {
            "laneCount": len(lanes),
            "activeCount": len(running),
            "queuedCount": len(queued),
            "queuedLaneCount": len(set(queued)),
        }
        return {
            "ts": int(self.clock() * 1_000),
            "lanes": [
                {
                    "lane": "main",
                    "activeCount": len(running),
                    "queuedCount": len(queued),
                    "maxConcurrent": self.gateway.settings.lanes.max_concurrent,
                    "draining": False,
                    "generation": 0,
                    "blockedBy": None,
                }
            ],
            "dynamic": dynamic if lanes else None,
        }

    async def _sessions(self, call: Call, status: RunStatus) -> list[str]:
        """The session of each run that stands so."""
        page = await self.gateway.runs(call.principal, RunQuery(status=status, limit=_MOST))
        return [str(run.session_key) for run in page.runs]


def _machine(state_dir: str) -> dict[str, Any]:
    """Figures of the machine. Blocking."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    told: dict[str, Any] = {
        "platform": platform.system().lower(),
        "release": platform.release(),
        "arch": platform.machine(),
        "osLabel": f"{platform.system()} {platform.release()}",
        # The field that clients show as the runtime's version.
        "nodeVersion": f"Python {platform.python_version()}",
        "cpuCount": os.cpu_count() or 1,
        "loadAverage": list(os.getloadavg()),
        "memoryTotalBytes": total,
        "memoryFreeBytes": _free_memory(total),
    }
    try:
        disk = shutil.disk_usage(state_dir)
    except OSError:
        return told  # Such as a store in memory, which has no directory.
    return {**told, "diskTotalBytes": disk.total, "diskAvailableBytes": disk.free}


def _free_memory(total: int) -> int:
    """Bytes that programs can still get; 0 where the system does not tell."""
    try:
        for line in _MEMORY.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return min(total, int(value.split()[0]) * 1_024)
    except (OSError, ValueError, IndexError):
        return 0
    return 0
