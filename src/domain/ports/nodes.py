"""The processes of one Gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

MAX_PAYLOAD_BYTES = 7_000

OnMessage = Callable[[str], None]
"""Called with the payload of a message. Must not wait."""


class NodeBus(Protocol):
    """Messages between the processes of a Gateway, its nodes. Without others every method does
    nothing.

    A message is a hint that something has changed: messages can be lost, or arrive late, so a
    subscriber must be able to read the truth elsewhere, and does so when `on_gap` is called.
    """

    @property
    def node_id(self) -> str:
        """Names this process among all that have ever run."""
        ...

    @property
    def shared(self) -> bool:
        """Whether there can be other processes."""
        ...

    def publish(self, topic: str, payload: str = "") -> None:
        """Send to the subscribers in the other processes, soon. `topic`: ASCII letters, digits and
        `_`. Raises ValueError for a payload of more than MAX_PAYLOAD_BYTES in UTF-8."""
        ...

    def subscribe(self, topic: str, listener: OnMessage) -> Callable[[], None]:
        """Call `listener` for each message of other processes on the topic, until the returned
        function is called."""
        ...

    def on_gap(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when messages may have been lost, until the returned function is
        called."""
        ...
