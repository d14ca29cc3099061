"""Locks out an address with too many wrong credentials for a while."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from ..errors import LockedOut
from ..settings import LockoutSettings

_REPEATED = 60.0
"""Seconds in which repetitions of the same wrong credential count as one failure."""
_LOOPBACK = "127.0.0.1"
"""Represents every loopback address: a local program can connect from all of them."""
_MOST_REMEMBERED = 100
"""Maximum number of wrong credentials stored for one address, to detect repetitions."""


@dataclass(slots=True)
class _Record:
    failures: deque[float] = field(default_factory=deque)
    counted: dict[bytes, float] = field(default_factory=dict)
    """The time when each wrong credential was counted, by its digest; the oldest first."""


class Lockout:
    """Counts failures per address; `now` is a monotonic clock in seconds.

    The addresses of one IPv6 network of 64 bits count as one, because one client owns them all, and
    so do all loopback addresses. The same wrong credential counts once a minute, or once per window
    if that is longer, so that a program that polls with a stale secret does not lock its address
    out. A bounded number of credentials is stored, as digests under a random key of this object.

    A locked address keeps its record for the whole duration, however many other addresses fail. If
    locked addresses fill the table, all further addresses share one record and are locked out
    together; loopback always has its own.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._counting: OrderedDict[str, _Record] = OrderedDict()
        """The addresses that are not locked, least recently used first."""
        self._locked: OrderedDict[str, float] = OrderedDict()
        """The end of each lock, in the order of locking."""
        self._others = _Record()
        """The failures of addresses that do not fit into the table."""
        self._others_until = 0.0
        self._key = secrets.token_bytes(32)

    def check(self, address: str) -> None:
        """Raises LockedOut while the address is locked out."""
        key = owner_of(address)
        until = self._locked.get(key)
        if until is None and key not in self._counting and key != _LOOPBACK:
            until = self._others_until
        if until is not None and (left := until - self._now()) > 0:
            raise LockedOut(
                "Too many wrong credentials from this address; try again later.", retry_after=left
            )

    def failed(
        self, address: str, limits: LockoutSettings, credential: Iterable[bytes | None]
    ) -> bool:
        """Count a wrong credential of one or several secrets; True if that locks the address."""
        key, now = owner_of(address), self._now()
        self._release(key, now)
        if key in self._locked:
            return False
        record = self._record_of(key, limits.max_addresses)
        if self._is_repeated(record, limits, self._digest(credential), now):
            return False
        failures = record.failures
        failures.append(now)
        while failures and failures[0] <= now - limits.window:
            failures.popleft()
        if len(failures) < limits.max_attempts:
            return False
        self._lock(key, record, now + limits.duration)
        return True

    def succeeded(self, address: str) -> None:
        """A correct credential resets the failures."""
        self._counting.pop(owner_of(address), None)

    def __len__(self) -> int:
        return len(self._counting) + len(self._locked)

    def _release(self, key: str, now: float) -> None:
        """Remove the expired locks of `key` and of the addresses that were locked first."""
        if self._locked.get(key, now + 1) <= now:
            del self._locked[key]
        while self._locked and next(iter(self._locked.values())) <= now:
            self._locked.popitem(last=False)

    def _record_of(self, key: str, most: int) -> _Record:
        record = self._counting.get(key)
        if record is None:
            if len(self._locked) >= most and key != _LOOPBACK:
                return self._others
            record = self._counting[key] = _Record()
        self._counting.move_to_end(key)
        while len(self) > most and len(self._counting) > 1:
            self._counting.popitem(last=False)
        return record

    def _lock(self, key: str, record: _Record, until: float) -> None:
        if record is self._others:
            self._others, self._others_until = _Record(), until
        else:
            del self._counting[key]
            self._locked[key] = until

    def _is_repeated(
        self, record: _Record, limits: LockoutSettings, digest: bytes, now: float
    ) -> bool:
        """Whether the credential was counted recently; if not, count it now."""
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
            # With the length, so that the concatenation is unambiguous.
            digest.update(b"-" if secret is None else b"%d:%b" % (len(secret), secret))
        return digest.digest()


@lru_cache(maxsize=1_024)
def owner_of(address: str) -> str:
    """The key of one client: the address, its IPv6 network of 64 bits, or loopback."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback:
        return _LOOPBACK
    if isinstance(parsed, IPv6Address):
        return str(ip_network((int(parsed), 64), strict=False))
    return str(parsed)
