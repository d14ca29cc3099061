"""The processes of one Gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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

    def publish(self, topic: str, payload: str = "", *, is_urgent: bool = True) -> None:
        """Send to the subscribers in the other processes, soon. `topic`: ASCII letters, digits and
        `_`. A message that is not urgent may wait a moment for others, and is not sent while no
        other process is known of. Raises ValueError for a payload of more than MAX_PAYLOAD_BYTES in
        UTF-8."""
        ...

    def subscribe(self, topic: str, listener: OnMessage) -> Callable[[], None]:
        """Call `listener` for each message of other processes on the topic, until the returned
        function is called."""
        ...

    def on_gap(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when messages may have been lost, until the returned function is
        called."""
        ...


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A process of a Gateway. Times are Unix seconds, of the clock that all processes share."""

    id: str
    """Also the `owner` of the Runs that it executes."""
    name: str
    role: str
    version: str
    host: str
    pid: int
    address: str = ""
    """Where it serves; empty until it does."""
    configuration: str = ""
    """A digest of its configuration: processes with other settings have another one."""
    started_at: float = 0.0
    seen_at: float = 0.0
    """When it was heard of last."""
    runs: int = 0
    """Runs that it executes."""
    alive: bool = True
    """It was heard of within its lease."""
    unable: Mapping[str, str] = field(default_factory=dict)
    """The agents whose Runs it does not execute, because it lacks what they need; with sentences
    for everybody."""


class NodeDirectory(Protocol):
    """The processes of a Gateway, each of which shows three times a lease that it is there."""

    async def list(self) -> tuple[NodeInfo, ...]:
        """Those that have not ended by themselves, in the order of their start. One that died is
        in it for some minutes, as not `alive`. Raises StoreFailed."""
        ...

    async def join(self, describe: Callable[[], NodeInfo]) -> None:
        """Enter this process, and show from now on that it is there. `describe` is called each
        time; its times and `alive` do not count. Raises StoreFailed."""
        ...

    async def leave(self) -> None:
        """This process ends. Nothing where it has not joined."""
        ...


class SessionChanges(Protocol):
    """The last changes of Sessions by any process, as texts, for processes that have missed the
    message of one. All methods raise StoreFailed."""

    async def add(self, change_id: str, body: str) -> None:
        """This process has made a change."""
        ...

    async def recent(self) -> tuple[tuple[str, str], ...]:
        """The ids and texts of the changes that the other processes have made within some minutes,
        oldest first; where they are very many, of the newest."""
        ...


class PresenceBook(Protocol):
    """The connected clients of each process, as text that expires where its process does not repeat
    it. All methods raise StoreFailed."""

    async def put(self, clients: str) -> None:
        """The clients of this process, in place of the former ones."""
        ...

    async def others(self) -> tuple[str, ...]:
        """What the other processes have put."""
        ...

    async def remove(self) -> None:
        """This process has no clients any more."""
        ...
