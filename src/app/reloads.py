"""Logs changes of the configuration while serving."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..adapters.config import Applied, Rejected, ReloadEvent, Skipped
from ..domain.settings import LoggingSettings

logger = logging.getLogger(__name__)

ConfigureLogging = Callable[[LoggingSettings], None]


class Reloads:
    """Logs each event and wakes the tasks that wait for a change.

    Called within a request, so it must be fast.
    """

    def __init__(self) -> None:
        self._applied = asyncio.Event()

    def __call__(self, event: ReloadEvent) -> None:
        match event:
            case Applied(changed=changed, restart_needed=restart_needed, notes=notes):
                logger.info("configuration changed", extra={"changed": list(changed)})
                if restart_needed:
                    extra = {"paths": list(restart_needed)}
                    logger.warning("a restart is needed for part of the change", extra=extra)
                for note in notes:
                    logger.info(note)
                self._applied.set()
            case Rejected(issues=issues):
                logger.error(
                    "the changed configuration is not valid; the last good one stays in force",
                    extra={"issues": [str(issue) for issue in issues]},
                )
            case Skipped(mode=mode, changed=changed):
                logger.warning(
                    "the changed configuration is not applied",
                    extra={"gateway.reload.mode": mode, "changed": list(changed)},
                )

    async def applied(self) -> None:
        """Wait for the next applied change."""
        await self._applied.wait()
        self._applied.clear()
