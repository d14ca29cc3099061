"""`system.info`, `gateway.nodes` and `diagnostics.lanes`: the machine, the processes of the Gateway
and the run queues."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .....domain.access import Scope
from .....domain.ports import NodeInfo
from .....domain.runs import RunQuery, RunStatus
from ..connection import Call, NoParams
from .service import ControlService, answers

_MEMORY = Path("/proc/meminfo")
_MOST = 500
"""Runs that are counted."""


class MachineMethods(ControlService):
    @answers("system.info", NoParams)
    async def _info(self, call: Call, params: NoParams) -> object:
        """Only administrators see the state directory."""
        facts = self.dependencies.facts
        # In a thread, so that an unresponsive disk only delays this response.
        machine = await asyncio.to_thread(_machine, facts.state_dir)
        path = {"diskPath": facts.state_dir} if call.principal.may(Scope.ADMIN) else {}
        return {
            **machine,
            **path,
            "machineName": facts.host,
            "hostname": facts.host,
            "pid": os.getpid(),
            "uptimeMs": max(0, int((self.clock() - facts.started_at) * 1_000)),
        }

    @answers("gateway.nodes", NoParams)
    async def _nodes(self, call: Call, params: NoParams) -> object:
        return {"nodes": node_rows(await self.dependencies.nodes.list())}

    @answers("diagnostics.lanes", NoParams)
    async def _lanes(self, call: Call, params: NoParams) -> object:
        """All runs share the slots of the lane `main`; each session also has its own lane."""
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
        """The session key of each run with this status."""
        page = await self.gateway.runs(call.principal, RunQuery(status=status, limit=_MOST))
        return [str(run.session_key) for run in page.runs]


def node_rows(nodes: Sequence[NodeInfo]) -> list[dict[str, Any]]:
    """The nodes as JSON data. `differs`: its configuration is another one than most have."""
    usual = Counter(node.configuration for node in nodes if node.alive).most_common(1)
    return [
        {
            "id": node.id,
            "name": node.name,
            "role": node.role,
            "version": node.version,
            "host": node.host,
            "pid": node.pid,
            "address": node.address,
            "configuration": node.configuration,
            "differs": bool(usual) and node.configuration != usual[0][0],
            "startedAt": int(node.started_at * 1_000),
            "seenAt": int(node.seen_at * 1_000),
            "runs": node.runs,
            "alive": node.alive,
            **({"unable": dict(node.unable)} if node.unable else {}),
        }
        for node in nodes
    ]


def _machine(state_dir: str) -> dict[str, Any]:
    """Blocking."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    info: dict[str, Any] = {
        "platform": platform.system().lower(),
        "release": platform.release(),
        "arch": platform.machine(),
        "osLabel": f"{platform.system()} {platform.release()}",
        # Clients display this field as the version of the runtime.
        "nodeVersion": f"Python {platform.python_version()}",
        "cpuCount": os.cpu_count() or 1,
        "loadAverage": list(os.getloadavg()),
        "memoryTotalBytes": total,
        "memoryFreeBytes": _free_memory(total),
    }
    try:
        disk = shutil.disk_usage(state_dir)
    except OSError:
        return info  # A store in memory has no directory.
    return {**info, "diskTotalBytes": disk.total, "diskAvailableBytes": disk.free}


def _free_memory(total: int) -> int:
    """Available bytes; 0 if the system does not report them."""
    try:
        for line in _MEMORY.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return min(total, int(value.split()[0]) * 1_024)
    except (OSError, ValueError, IndexError):
        return 0
    return 0
