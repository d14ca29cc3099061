"""Wrong credentials, counted in PostgreSQL for all processes.

A process keeps a copy of which addresses are locked out and which have failed, and renews it when a
request needs it and it is older than half a second. So most requests with a right credential cost
no query, and an idle process makes none.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable

from ....domain.access import owner_of
from ....domain.errors import LockedOut, StoreFailed
from ....domain.ports import Clock
from ....domain.settings import LockoutSettings
from .columns import data
from .database import Database

_REPEATED = 60.0
"""Seconds in which repetitions of the same wrong credential count as one failure."""
_OVERLAP = 10.0
"""Seconds of changes that are read again: a transaction may commit later than it has read the
time."""
_NOW = "coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp())::float8)"
_CHANGES = f"""
    SELECT {_NOW}, NULL::bytea, NULL::float8
    UNION ALL
    SELECT NULL, owner, until FROM lockouts WHERE locked_at >= %(since)s
    UNION ALL
    SELECT NULL, owner, NULL FROM wrong_credentials WHERE at >= %(since)s"""  # noqa: S608 - no values
_COUNT = f"""
    SELECT count_failure(
        %(owner)s::bytea, %(digest)s::bytea, %(most)s::integer, %(window)s::float8,
        %(repeated)s::float8, %(duration)s::float8, %(addresses)s::bigint, {_NOW})"""
_FORGET = "DELETE FROM wrong_credentials WHERE owner = %s"
_OFFER_KEY = "INSERT INTO lockout_key VALUES (true, %s) ON CONFLICT DO NOTHING"
_KEY = "SELECT key FROM lockout_key"


class PostgresLimits:
    """Limits in a Database, which others open and close.

    `renewal`: seconds that the copy is used for. `steady` never jumps. `clock`: in place of the
    database's.
    """

    def __init__(
        self,
        database: Database,
        *,
        renewal: float = 0.5,
        steady: Clock = time.monotonic,
        clock: Clock | None = None,
    ) -> None:
        self._database = database
        self._renewal = renewal
        self._steady = steady
        self._clock = clock
        self._key: bytes | None = None
        self._locked: dict[bytes, float] = {}
        """When each lock ends, by the clock of the database."""
        self._failed: set[bytes] = set()
        self._read_at = 0.0
        """When the copy was read, by the clock of the database; 0: it was never read."""
        self._renewed_at = 0.0
        """The same by the steady clock."""
        self._tried_at = 0.0
        """When it was last to be read, by the steady clock."""

    async def check(self, address: str) -> None:
        await self._renew()
        owner = data(owner_of(address))
        until = self._locked.get(owner)
        if until is None:
            return
        left = until - self._read_at - (self._steady() - self._renewed_at)
        if left <= 0:
            self._locked.pop(owner, None)
            return
        raise LockedOut(
            "Too many wrong credentials from this address; try again later.", retry_after=left
        )

    async def failed(
        self, address: str, limits: LockoutSettings, credential: Iterable[bytes | None]
    ) -> bool:
        owner = data(owner_of(address))
        values = {
            "owner": owner,
            "digest": await self._digest(credential),
            "most": limits.max_attempts,
            "window": limits.window,
            "repeated": max(_REPEATED, limits.window),
            "duration": limits.duration,
            "addresses": limits.max_addresses,
            "now": self._time(),
        }
        row = await self._database.change_row(_COUNT, values)
        locked = row is not None and bool(row[0])
        self._failed.add(owner)
        if locked:
            await self._renew(force=True)
        return locked

    async def succeeded(self, address: str) -> None:
        owner = data(owner_of(address))
        if owner in self._failed:
            await self._database.execute(_FORGET, (owner,))
            self._failed.discard(owner)

    async def _renew(self, *, force: bool = False) -> None:
        """Where the database cannot be reached, the last copy is used: requests cannot be served
        without the database anyway."""
        started = self._steady()
        if self._read_at and started - self._tried_at < self._renewal and not force:
            return
        self._tried_at = started
        values = {"now": self._time(), "since": self._read_at - _OVERLAP if self._read_at else 0.0}
        try:
            rows = await self._database.rows(_CHANGES, values)
        except StoreFailed:  # The database has logged it.
            return
        failed = set[bytes]()
        for now, owner, until in rows:
            if now is not None:
                self._read_at, self._renewed_at = now, started
            elif until is None:
                failed.add(owner)
            else:
                self._locked[owner] = until
        self._failed |= failed
        self._locked = {
            owner: until for owner, until in self._locked.items() if until > self._read_at
        }

    async def _digest(self, credential: Iterable[bytes | None]) -> bytes:
        if self._key is None:
            await self._database.execute(_OFFER_KEY, (secrets.token_bytes(32),))
            row = await self._database.row(_KEY)
            if row is None:
                raise StoreFailed("The key of the wrong credentials is not in the database.")
            self._key = row[0]
        digest = hashlib.blake2b(key=self._key, digest_size=16)
        for secret in credential:
            # With the length, so that the concatenation is unambiguous.
            digest.update(b"-" if secret is None else b"%d:%b" % (len(secret), secret))
        return digest.digest()

    def _time(self) -> float | None:
        return None if self._clock is None else self._clock()
