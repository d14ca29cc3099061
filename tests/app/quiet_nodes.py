"""Parts of nodes for tests of what one node learns of another, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dependency_injector import providers

from opensoul.app.supervisor import Supervisor
from opensoul.domain.ports import OnMessage
from tests.app.serving import hurried

Parts = dict[str, providers.Provider[Any]]


def never() -> Parts:
    """A node that does nothing periodically: it learns of changes by messages alone."""

    async def sleep(seconds: float) -> None:
        if seconds:
            await asyncio.Event().wait()

    return {"supervisor": providers.Singleton(Supervisor, sleep=sleep)}


class Deaf:
    """A bus whose messages are all lost."""

    node_id = "deaf"
    shared = True

    def publish(self, topic: str, payload: str = "", *, is_urgent: bool = True) -> None:
        pass

    def subscribe(self, topic: str, listener: OnMessage) -> Callable[[], None]:
        return lambda: None

    async def listening(self, *topics: str) -> None:
        pass

    def on_gap(self, listener: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


def without_messages() -> Parts:
    """A node that learns of changes by looking for them alone."""
    return {"bus": providers.Object(Deaf()), "supervisor": hurried()}
