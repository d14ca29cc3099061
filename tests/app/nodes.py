"""Several Gateways in this process over one database, each with a state directory of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from dependency_injector.providers import Provider

from tests.app.serving import Served, config, serving

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
    parts: Mapping[str, Provider[Any]] | None = None,
    executes: Sequence[str] | None = None,
    **sections: Any,
) -> AsyncIterator[Served]:
    """A process with a state directory of its own. `parts` replace providers of its container.
    `executes`: the agents that it executes; None: all."""
    content = config(provider_url, **sections)
    async with _serving(
        home, url, content, name=name, role=role, lease=lease, parts=parts, executes=executes
    ) as served:
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
    home: Path,
    url: str,
    content: Mapping[str, Any],
    roles: Sequence[str] = ("all", "all"),
    parts: Callable[[], dict[str, Provider[Any]]] = dict,
) -> AsyncIterator[list[Served]]:
    """A node for each role. They serve `content` with the database at `url` added. `parts`: what
    replaces the providers of a container, made for each node."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                _serving(home, url, content, name=f"node{number}", role=role, parts=parts())
            )
            for number, role in enumerate(roles)
        ]


@asynccontextmanager
async def _serving(
    home: Path,
    url: str,
    content: Mapping[str, Any],
    *,
    name: str,
    role: str,
    lease: int = LEASE,
    parts: Mapping[str, Provider[Any]] | None = None,
    executes: Sequence[str] | None = None,
) -> AsyncIterator[Served]:
    own = home / name
    own.mkdir(exist_ok=True)
    of_node: dict[str, Any] = {"role": role, "name": name, "leaseSeconds": lease}
    if executes is not None:
        of_node["agents"] = list(executes)
    gateway = content.get("gateway", {})
    gateway = {**gateway, "shutdown": {"lingerSeconds": 0, **gateway.get("shutdown", {})}}
    whole = {**content, "gateway": gateway, "store": {"url": url}, "node": of_node}
    async with serving(own, whole, **(parts or {})) as served:
        yield served
