"""Several Gateways in this process over one database, each with a state directory of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.app.serving import Served, serving

LEASE_SECONDS = 1


@asynccontextmanager
async def serving_nodes(
    home: Path, url: str, content: Mapping[str, Any], roles: Sequence[str] = ("all", "all")
) -> AsyncIterator[list[Served]]:
    """A node for each role. They serve `content` with the database at `url` added."""
    async with AsyncExitStack() as stack:
        nodes = []
        for number, role in enumerate(roles):
            place = home / f"node{number}"
            place.mkdir()
            node = {"role": role, "name": f"node{number}", "leaseSeconds": LEASE_SECONDS}
            whole = {**content, "store": {"url": url}, "node": node}
            nodes.append(await stack.enter_async_context(serving(place, whole)))
        yield nodes
