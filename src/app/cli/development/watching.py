"""`opensoul dev`: a Gateway for one agent, in a process that is replaced when the code changes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from watchfiles import PythonFilter, awatch

from ...terminal import echo

_CHILD = f"{__package__}.one_agent"
_ENDING = 5.0
"""Seconds that a Gateway gets to end."""
_OWN = ("OPENSOUL_", "OPENCLAW_")
"""Variables that configure a Gateway; those of other Gateways do not hold for this one."""


@dataclass(frozen=True, slots=True)
class Served:
    """What to serve. `port` 0: any."""

    target: str
    path: str
    isolation: str = "thread"
    port: int = 0

    @property
    def agent_id(self) -> str:
        """The name of the object, as the id of an agent."""
        name = self.target.rpartition(":")[2].rpartition(".")[2].lower()
        return re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:64] or "main"


def configuration(served: Served) -> dict[str, object]:
    """The configuration of the Gateway. Runs do not delay its end."""
    runner = {
        "use": "python",
        "target": served.target,
        "path": served.path,
        "isolation": served.isolation,
    }
    on = {"enabled": True}
    return {
        "gateway": {
            "bind": "loopback",
            "auth": {"mode": "token"},
            "http": {"endpoints": {"chatCompletions": on, "responses": on}},
            "shutdown": {"lingerSeconds": 0, "graceSeconds": 0},
            "reload": {"mode": "off"},
        },
        "agents": {"list": [{"id": served.agent_id, "runner": runner}]},
        "logging": {"level": "warn"},
    }


def develop(served: Served) -> int:
    """Serve until SIGINT or SIGTERM; the exit code."""
    with tempfile.TemporaryDirectory(prefix="opensoul-dev-") as folder:
        state = Path(folder, "state")
        state.mkdir(mode=0o700)
        config = Path(folder, "opensoul.json")
        config.write_text(json.dumps(configuration(served)))
        config.chmod(0o600)
        env = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        env["OPENSOUL_STATE_DIR"] = str(state)
        return asyncio.run(_develop(served, config, env))


async def _develop(served: Served, config: Path, env: Mapping[str, str]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    port = served.port or _free_port()
    process = await _start(config, port, env)
    ended = loop.create_task(process.wait())
    changes = awatch(served.path, watch_filter=PythonFilter(), stop_event=stop)
    changed = loop.create_task(anext(changes, None))
    try:
        while True:
            await asyncio.wait({ended, changed}, return_when=asyncio.FIRST_COMPLETED)
            if changed.done():
                if (files := changed.result()) is None:
                    return 0
                names = sorted({file.removeprefix(served.path).strip("/") for _, file in files})
                echo(f"\nChanged: {', '.join(names)}. The agent is loaded again.")
                await _end(process)
                process = await _start(config, port, env, "again")
                ended = loop.create_task(process.wait())
                changed = loop.create_task(anext(changes, None))
            elif ended.done():
                # Only its own failure, or `gateway.stop`, ends it.
                return ended.result()
    finally:
        stop.set()
        await _end(process)
        with suppress(StopAsyncIteration):
            await asyncio.wait({changed})
            await changes.aclose()


async def _start(config: Path, port: int, env: Mapping[str, str], *more: str) -> Process:
    # In a group of its own: Ctrl-C reaches this process alone, which then ends the other one.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", _CHILD, str(config), str(port), *more),
        stdin=asyncio.subprocess.DEVNULL,
        env=dict(env),
        process_group=0,
    )


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_ENDING):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _free_port() -> int:
    """A port of loopback, the same for all processes that follow."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
