"""Compares the configuration of this process with those of the other processes of the Gateway."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from ..domain.errors import StoreFailed
from ..domain.ports import NodeInfo

logger = logging.getLogger(__name__)

COMPARE_SECONDS = 10.0


class Configurations:
    """Logs a warning when processes have different configurations in two calls of `compare` in a
    row, since a change does not reach all of them at once. Due every COMPARE_SECONDS."""

    def __init__(self, nodes: Callable[[], Awaitable[Sequence[NodeInfo]]]) -> None:
        self._nodes = nodes
        self._seen: dict[str, list[str]] = {}
        self._logged: dict[str, list[str]] = {}

    async def compare(self) -> None:
        try:
            nodes = await self._nodes()
        except StoreFailed as error:
            logger.debug("configurations were not compared", extra={"reason": error.message})
            return
        found: dict[str, list[str]] = defaultdict(list)
        for node in nodes:
            if node.alive:
                found[node.configuration].append(node.name)
        before, self._seen = self._seen, dict(found)
        if self._seen != before or self._seen == self._logged:
            return
        if len(found) > 1:
            logger.warning("nodes have different configurations", extra={"nodes": dict(found)})
        elif self._logged:
            logger.info("all nodes have the same configuration")
        self._logged = self._seen if len(found) > 1 else {}
