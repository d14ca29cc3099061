"""Several applications over one PostgreSQL database, as the processes of one Gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from dependency_injector import providers

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
    parts: Mapping[str, providers.Provider[Any]] | None = None,
    **sections: Any,
) -> AsyncIterator[Served]:
    """A process with a state directory of its own. `parts` replace providers of its container."""
    own = home / name
    own.mkdir()
    of_node = {"role": role, "name": name, "leaseSeconds": lease}
    content = config(provider_url, store={"url": url}, node=of_node, **sections)
    async with serving(own, content, **(parts or {})) as served:
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
