"""Connections in their handshake: how many there may be, and which one makes room for another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MAX_PER_ADDRESS = 64
"""Of one address, or of one IPv6 network of 64 bits. The more there are, the longer has each."""
MAX_HALF_OPEN = 512
"""Of all addresses together."""


@dataclass(slots=True, eq=False)
class HalfOpen:
    """A connection that has sent no `connect` yet."""

    owner: str
    deadline: asyncio.Timeout | None = None
    """The time limit of its handshake, once that has begun."""
    is_replaced: bool = False

    def replace(self) -> None:
        """End it now: a newer connection needs the place."""
        self.is_replaced = True
        if self.deadline is not None and not self.deadline.expired():
            self.deadline.reschedule(asyncio.get_running_loop().time())

    @contextmanager
    def limited_by(self, deadline: asyncio.Timeout) -> Iterator[None]:
        """Let the replacement end the block that `deadline` limits."""
        self.deadline = deadline
        if self.is_replaced:
            self.replace()
        try:
            yield
        finally:
            self.deadline = None


class HalfOpenConnections:
    """A budget of their own, apart from that of the connections that are let in.

    Where it is used up, the oldest one is replaced: that of the same address where the address has
    its share, else that of the address with the most. A client needs its place for one round trip,
    while one that keeps its connections half-open replaces its own.
    """

    def __init__(self, per_address: int = MAX_PER_ADDRESS, most: int = MAX_HALF_OPEN) -> None:
        self._per_address = per_address
        self._most = most
        self._owners: dict[str, dict[HalfOpen, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def joined(self, owner: str) -> Iterator[HalfOpen]:
        """While a connection is half-open; `release` may end that earlier."""
        if len(self._owners.get(owner, ())) >= self._per_address:
            self._replace_oldest(owner)
        elif self._count >= self._most:
            self._replace_oldest(max(self._owners, key=lambda one: len(self._owners[one])))
        one = HalfOpen(owner)
        self._owners.setdefault(owner, {})[one] = None
        self._count += 1
        try:
            yield one
        finally:
            self.release(one)

    def release(self, one: HalfOpen) -> None:
        """The connection is half-open no longer; harmless if repeated."""
        of_owner = self._owners.get(one.owner, {})
        if one not in of_owner:
            return
        del of_owner[one]
        self._count -= 1
        if not of_owner:
            del self._owners[one.owner]

    def _replace_oldest(self, owner: str) -> None:
        oldest = next(iter(self._owners[owner]))
        self.release(oldest)
        oldest.replace()
