"""Limits the number of connections that are in their handshake."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MAX_PER_ADDRESS = 64
"""Half-open connections per address, or per IPv6 network of 64 bits."""
MAX_HALF_OPEN = 512
"""Half-open connections in total."""


@dataclass(slots=True, eq=False)
class HalfOpen:
    """A connection before its `connect`."""

    owner: str
    deadline: asyncio.Timeout | None = None
    """The timeout of its handshake, once that has begun."""
    is_replaced: bool = False

    def replace(self) -> None:
        """End it now, in favour of a newer connection."""
        self.is_replaced = True
        if self.deadline is not None and not self.deadline.expired():
            self.deadline.reschedule(asyncio.get_running_loop().time())

    @contextmanager
    def limited_by(self, deadline: asyncio.Timeout) -> Iterator[None]:
        """Make `replace` expire `deadline` during the context."""
        self.deadline = deadline
        if self.is_replaced:
            self.replace()
        try:
            yield
        finally:
            self.deadline = None


class HalfOpenConnections:
    """The limits of half-open connections, separate from those of accepted ones.

    At a limit the oldest half-open connection is replaced: of the same address at the limit per
    address, else of the address with the most. A legitimate client is half-open for one round trip
    only, while an attacker that keeps connections half-open mostly replaces its own.
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
        """Count a connection as half-open during the context, or until `release`."""
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
        """Stop counting the connection as half-open. May be called twice."""
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
