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

    A message says only that something has changed: messages can be lost, or arrive late, so a
    subscriber reads the changed records from their store, also when `on_gap` is called, and at an
    interval.
    """

    @property
    def node_id(self) -> str:
        """The id of this process, which no other process has or had."""
        ...

    @property
    def shared(self) -> bool:
        """Whether there can be other processes."""
        ...

    def publish(self, topic: str, payload: str = "", *, is_urgent: bool = True) -> None:
        """Send to the subscribers in the other processes. Returns at once, and the message may get
        lost. `topic`: ASCII letters, digits and `_`. A message that is not urgent may wait for
        others for some hundredths of a second, and is not sent while no other process is known of.
        Raises ValueError for a payload of more than MAX_PAYLOAD_BYTES in UTF-8."""
        ...

    def subscribe(self, topic: str, listener: OnMessage) -> Callable[[], None]:
        """Call `listener` for each message of other processes on the topic, until the returned
        function is called."""
        ...

    async def listening(self, *topics: str) -> None:
        """Return once messages that are published from now on reach the subscribers of these topics
        here. Where messages are being lost it returns at once, and `on_gap` says when that is
        over."""
        ...

    def on_gap(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when messages may have been lost, until the returned function is
        called."""
        ...


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A process of a Gateway. Times are Unix seconds, by the clock of a shared database."""

    id: str
    """Also the `owner` of the Runs that it executes."""
    name: str
    role: str
    version: str
    host: str
    pid: int
    address: str = ""
    """The host and the port where it serves; empty until it does."""
    configuration: str = ""
    """A digest of its configuration, without the keys that may differ between processes."""
    started_at: float = 0.0
    seen_at: float = 0.0
    """The time of its last heartbeat."""
    runs: int = 0
    """Runs that it executes."""
    alive: bool = True
    """Its last heartbeat is not older than its lease."""
    unable: Mapping[str, str] = field(default_factory=dict)
    """The agents whose Runs it does not execute, because it lacks what they need; with sentences
    for everybody."""


class NodeDirectory(Protocol):
    """The processes of a Gateway. Each stores a heartbeat three times in a lease."""

    async def list(self) -> tuple[NodeInfo, ...]:
        """Those that have not ended by themselves, in the order of their start. One that died is
        in it for some minutes, as not `alive`. Raises StoreFailed."""
        ...

    async def join(self, describe: Callable[[], NodeInfo]) -> None:
        """Add this process, and store its heartbeats from now on. `describe` is called for each;
        its times and `alive` are ignored. Raises StoreFailed."""
        ...

    async def leave(self) -> None:
        """Remove this process, which ends. Raises nothing; does nothing where it has not joined."""
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
        """Store the clients of this process, in place of the former ones."""
        ...

    async def others(self) -> tuple[str, ...]:
        """What each other process has put last."""
        ...

    async def remove(self) -> None:
        """Remove the clients of this process."""
        ...
