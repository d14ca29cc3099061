"""Messages between the processes of a Gateway, as notifications of the database."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ....domain.ports import MAX_PAYLOAD_BYTES, OnMessage
from .runs import Bells


class PostgresBus:
    """A NodeBus over the Bells of this process, which others start and close.

    The payload of a notification is the sender's id, a space and the payload of the message: the
    database notifies the sender, too.
    """

    def __init__(self, bells: Bells, node_id: str) -> None:
        self.node_id = node_id
        self.shared = True
        self._bells = bells
        self._listeners: dict[str, list[OnMessage]] = {}

    def publish(self, topic: str, payload: str = "", *, is_urgent: bool = True) -> None:
        size = len(payload.encode("utf-8", "surrogatepass"))
        if size > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a message of {size} bytes; the most is {MAX_PAYLOAD_BYTES}")
        if is_urgent or not self._bells.is_alone():
            self._bells.ring(_channel(topic), f"{self.node_id} {payload}", is_urgent=is_urgent)

    def subscribe(self, topic: str, listener: OnMessage) -> Callable[[], None]:
        listeners = self._listeners.setdefault(topic, [])
        listeners.append(listener)
        if len(listeners) == 1:
            self._bells.hear(_channel(topic), partial(self._received, topic))
        return partial(self._unsubscribe, topic, listener)

    async def listening(self, *topics: str) -> None:
        await self._bells.listening(*map(_channel, topics))

    def on_gap(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._bells.on_again.append(listener)
        return lambda: self._bells.on_again.remove(listener)

    def _unsubscribe(self, topic: str, listener: OnMessage) -> None:
        listeners = self._listeners[topic]
        listeners.remove(listener)
        if not listeners:
            del self._listeners[topic]
            self._bells.ignore(_channel(topic))

    def _received(self, topic: str, text: str) -> None:
        sender, _, payload = text.partition(" ")
        if sender != self.node_id:
            for listener in tuple(self._listeners.get(topic, ())):
                listener(payload)


def _channel(topic: str) -> str:
    return f"t_{topic}"
