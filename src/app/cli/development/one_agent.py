"""The Gateway of `opensoul dev`, until it is replaced by one with the changed code:
`python -m opensoul.app.cli.development.one_agent CONFIG PORT`."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from dataclasses import replace

from dependency_injector import providers

from ....adapters.config import DATABASE_VARIABLE, Overrides
from ....adapters.python_agents import PythonAgents, Status
from ....domain.settings import Settings
from ...container import Container
from ...server import PortTaken, create_app, host
from ...terminal import echo
from ..common.banner import start_message

_PR_SET_PDEATHSIG = 1


async def _report(agents: PythonAgents, settings: Settings) -> None:
    """Print whether the agent can be used; the log has the traceback."""
    agents.configure(settings.agents)
    state = await agents.loaded(settings.agents.default.id)
    if state.status is Status.READY:
        echo(f"\n{state.target} is ready: {state.what}")
    else:
        echo(f"\n{state.target} cannot be used: {state.what}")


def serve(config: str, port: int, *, is_first: bool) -> int:
    """Serve until a signal; the exit code."""
    # Its state is its own, also where this machine has a node of a Gateway.
    env = {name: value for name, value in os.environ.items() if name != DATABASE_VARIABLE}
    container = Container(
        overrides=providers.Object(Overrides(config_path=config, port=port)),
        env=providers.Object(env),
    )
    app = create_app(container)
    settings = container.settings()()
    reports: list[asyncio.Task[None]] = []

    def announce(port: int) -> None:
        if is_first:
            # The notes are about a configuration that the user has not written.
            serving = replace(settings, notes=(), listen=replace(settings.listen, port=port))
            token = container.token_file().read_or_create()
            echo(start_message(serving, token=token, config=config))
        report = _report(container.python_agents(), settings)
        reports.append(asyncio.get_running_loop().create_task(report))

    try:
        host(app, container.lifecycle(), settings.listen, on_ready=announce)
    except PortTaken as taken:
        echo(f"opensoul: {taken}", err=True)
        return 1
    return 0


def main() -> None:
    """Serve, and end with the process that has started this one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    config, port, *more = sys.argv[1:]
    code = serve(config, int(port), is_first=not more)
    sys.stdout.flush()
    os._exit(code)  # Threads of the agent may go on for ever.


if __name__ == "__main__":
    main()
