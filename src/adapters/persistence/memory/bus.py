"""The bus of a Gateway that is one process."""

from __future__ import annotations

from collections.abc import Callable

from ....domain.ports import OnMessage


class SingleNode:
    """A NodeBus without other processes."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.shared = False

    def publish(self, topic: str, payload: str = "", *, is_urgent: bool = True) -> None:
        """Nobody else is there."""

    def subscribe(self, topic: str, listener: OnMessage) -> Callable[[], None]:
        return _nothing

    async def listening(self, *topics: str) -> None:
        """There is nothing to wait for."""

    def on_gap(self, listener: Callable[[], None]) -> Callable[[], None]:
        return _nothing


def _nothing() -> None:
    """There is nothing to end."""
