"""Slows down who guesses: an address with too many wrong credentials is refused for a while."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from .errors import LockedOut
from .settings import LockoutSettings


@dataclass(slots=True)
class _Record:
    failures: deque[float] = field(default_factory=deque)
    locked_until: float = 0.0


class Lockout:
    """Counts failures per address; `now` is a monotonic clock in seconds.

    The addresses of one IPv6 network of 64 bits count as one, since one client owns them all.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def check(self, address: str) -> None:
        """Raises LockedOut while the address is locked out."""
        record = self._records.get(owner_of(address))
        if record is None:
            return
        left = record.locked_until - self._now()
        if left > 0:
            raise LockedOut(
                "Too many wrong credentials from this address; try again later.", retry_after=left
            )

    def failed(self, address: str, limits: LockoutSettings) -> bool:
        """Count a wrong credential; True when the address is locked out by it."""
        key, now = owner_of(address), self._now()
        record = self._records.setdefault(key, _Record())
        self._records.move_to_end(key)
        while len(self._records) > limits.max_addresses:
            self._records.popitem(last=False)
        failures = record.failures
        failures.append(now)
        while failures and failures[0] <= now - limits.window:
            failures.popleft()
        if len(failures) < limits.max_attempts:
            return False
        failures.clear()
        record.locked_until = now + limits.duration
        return True

    def succeeded(self, address: str) -> None:
        """A right credential forgives the wrong ones before it."""
        self._records.pop(owner_of(address), None)

    def __len__(self) -> int:
        return len(self._records)


@lru_cache(maxsize=1_024)
def owner_of(address: str) -> str:
    """What counts as one client: the address, or its IPv6 network of 64 bits."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address) or parsed.is_loopback:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((int(parsed), 64), strict=False))
