"""Slows down who guesses: an address with too many wrong credentials is refused for a while."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from .errors import LockedOut
from .settings import LockoutSettings

_REPEATED = 60.0
"""Seconds in which the same wrong credential is one failure, however often it is sent."""
_MOST_REMEMBERED = 100
"""Wrong credentials of one address that are remembered, to recognise those that are repeated."""


@dataclass(slots=True)
class _Record:
    failures: deque[float] = field(default_factory=deque)
    counted: dict[bytes, float] = field(default_factory=dict)
    """When each wrong credential was last counted, by its digest; the oldest first."""
    locked_until: float = 0.0


class Lockout:
    """Counts failures per address; `now` is a monotonic clock in seconds.

    The addresses of one IPv6 network of 64 bits count as one, since one client owns them all.
    A program that polls with a stale secret guesses nothing: the same wrong credential counts once
    a minute, or once in the window where that is longer, so that it never locks an address out.
    Credentials are remembered as digests under a random key of this object, a bounded number.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._key = secrets.token_bytes(32)

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

    def failed(
        self, address: str, limits: LockoutSettings, credential: Iterable[bytes | None]
    ) -> bool:
        """Count a wrong credential, of one or several secrets; True when that locks the address."""
        key, now = owner_of(address), self._now()
        record = self._records.setdefault(key, _Record())
        self._records.move_to_end(key)
        while len(self._records) > limits.max_addresses:
            self._records.popitem(last=False)
        if self._is_repeated(record, limits, self._digest(credential), now):
            return False
        failures = record.failures
        failures.append(now)
        while failures and failures[0] <= now - limits.window:
            failures.popleft()
        if len(failures) < limits.max_attempts:
            return False
        failures.clear()
        record.counted.clear()
        record.locked_until = now + limits.duration
        return True

    def succeeded(self, address: str) -> None:
        """A right credential forgives the wrong ones before it."""
        self._records.pop(owner_of(address), None)

    def __len__(self) -> int:
        return len(self._records)

    def _is_repeated(
        self, record: _Record, limits: LockoutSettings, digest: bytes, now: float
    ) -> bool:
        """Whether the credential was counted a short time ago; it is from now on, if not."""
        counted = record.counted
        since = now - max(_REPEATED, limits.window)
        while counted and next(iter(counted.values())) <= since:
            del counted[next(iter(counted))]
        if digest in counted:
            return True
        counted[digest] = now
        while len(counted) > min(limits.max_attempts, _MOST_REMEMBERED):
            del counted[next(iter(counted))]
        return False

    def _digest(self, credential: Iterable[bytes | None]) -> bytes:
        digest = hashlib.blake2b(key=self._key, digest_size=16)
        for secret in credential:
            # With the length, or else two secrets could be divided in several ways.
            digest.update(b"-" if secret is None else b"%d:%b" % (len(secret), secret))
        return digest.digest()


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
