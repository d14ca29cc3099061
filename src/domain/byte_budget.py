"""How many bytes of requests are held at the same time, over all connections."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Protocol

from .errors import GatewayBusy
from .messages import Image, Message, Text, ToolCall

_RETRY_AFTER = 2.0


class Charge(Protocol):
    """The bytes of one request. It begins with one holder."""

    def add(self, size: int) -> None:
        """Charge for `size` more bytes. Raises GatewayBusy when that is beyond the budget: then
        nothing was added."""
        ...

    def raise_to(self, size: int) -> None:
        """Charge for `size` bytes in all, where fewer are charged so far. Raises GatewayBusy."""
        ...

    def reduce(self, size: int) -> None:
        """Give back so many of the bytes that were added."""
        ...

    def keep(self) -> None:
        """Have one more holder."""
        ...

    def release(self) -> None:
        """Have one holder less; the last one gives the bytes back to the budget."""
        ...


class InFlight:
    """The budget for the bodies and messages that are being read or in work, in bytes.

    `limit` is asked anew for each request. A request alone always fits the budget, however small
    that is, so that a low limit refuses nobody for ever. What a request takes besides its bytes,
    and what is made of them for a provider, is not counted.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self.used = 0

    def charge(self) -> Charge:
        """For a new request."""
        return _Charge(self)

    def busy(self) -> GatewayBusy:
        """The refusal of a request that does not fit."""
        return GatewayBusy(
            f"The Gateway is busy: it holds {self.used} bytes of requests "
            f"(gateway.http.maxBytesInFlight is {self._limit()}).",
            retry_after=_RETRY_AFTER,
        )

    def _take(self, size: int, own: int) -> None:
        limit = self._limit()
        if self.used + size > limit and self.used > own:
            raise self.busy()
        self.used += size

    def _give_back(self, size: int) -> None:
        self.used -= size


class _Charge:
    __slots__ = ("_budget", "_holders", "_size")

    def __init__(self, budget: InFlight) -> None:
        self._budget = budget
        self._holders = 1
        self._size = 0

    def add(self, size: int) -> None:
        self._budget._take(size, self._size)
        self._size += size

    def raise_to(self, size: int) -> None:
        if size > self._size:
            self.add(size - self._size)

    def reduce(self, size: int) -> None:
        size = min(size, self._size)
        self._size -= size
        self._budget._give_back(size)

    def keep(self) -> None:
        self._holders += 1

    def release(self) -> None:
        self._holders -= 1
        if not self._holders:
            size, self._size = self._size, 0
            self._budget._give_back(size)


class NoCharge:
    """Of a request that is counted nowhere, because it holds nothing worth it."""

    def add(self, size: int) -> None:
        """Nothing to count."""

    def raise_to(self, size: int) -> None:
        """Nothing to count."""

    def reduce(self, size: int) -> None:
        """Nothing to give back."""

    def keep(self) -> None:
        """Nobody to count."""

    def release(self) -> None:
        """Nothing to give back."""


NO_CHARGE = NoCharge()


def held_bytes(messages: Iterable[Message]) -> int:
    """What the texts of messages take in memory, which can be four times as much as their UTF-8:
    one character beyond 16 bits makes all of a text that wide."""
    return sum(_held(part) for message in messages for part in message.parts)


def _held(part: object) -> int:
    match part:
        case ToolCall(arguments=text) | Image(data=text) | Text(text=text):
            return sys.getsizeof(text)
        case _:
            return sys.getsizeof(getattr(part, "text", ""))
