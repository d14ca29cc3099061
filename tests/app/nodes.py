"""Several applications over one PostgreSQL database, as the processes of one Gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from .serving import Served, config, serving

LEASE = 30
"""Seconds: no lease of a living process expires in a test."""


@asynccontextmanager
async def node(
    home: Path,
    url: str,
    provider_url: str = "http://127.0.0.1:9/v1",
    *,
    name: str = "a",
    role: str = "all",
    lease: int = LEASE,
    **sections: Any,
) -> AsyncIterator[Served]:
    """A process with a state directory of its own."""
    own = home / name
    own.mkdir()
    of_node = {"role": role, "name": name, "leaseSeconds": lease}
    content = config(provider_url, store={"url": url}, node=of_node, **sections)
    async with serving(own, content) as served:
        yield served


@asynccontextmanager
async def nodes(
    home: Path, url: str, provider_url: str = "http://127.0.0.1:9/v1", **roles: str
) -> AsyncIterator[list[Served]]:
    """A process for each name, in this order, with that role."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(node(home, url, provider_url, name=name, role=role))
            for name, role in roles.items()
        ]


@asynccontextmanager
async def serving_nodes(
    home: Path, url: str, content: Mapping[str, Any], roles: Sequence[str] = ("all", "all")
) -> AsyncIterator[list[Served]]:
    """A process for each role. They serve `content` with the database at `url` added."""
    async with AsyncExitStack() as stack:
        served = []
        for number, role in enumerate(roles):
            own = home / f"node{number}"
            own.mkdir()
            of_node = {"role": role, "name": own.name, "leaseSeconds": LEASE}
            whole = {**content, "store": {"url": url}, "node": of_node}
            served.append(await stack.enter_async_context(serving(own, whole)))
        yield served
