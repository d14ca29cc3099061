"""What proves who a client is, and where paired devices are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Protocol

from ..access import Credential, Grant
from ..access.devices import DeviceState
from ..api_keys import ApiKey, KeyUsage
from ..settings import LockoutSettings


class Authenticator(Protocol):
    """One way for a client to prove who it is; the Gateway asks a chain of them in order."""

    async def authenticate(self, credential: Credential) -> Grant | None:
        """The grant that the credential proves; None where it proves nothing here, also for a wrong
        secret, so that the next authenticator is asked.

        Called for every request, before anything else is known of the client. A secret that can
        be guessed has to be `credential.secret`: that one counts towards the lockout.
        """
        ...

    def stands(self, grant: Grant) -> bool:
        """Whether a grant of this authenticator is still in force, in that revision.

        Called often, also for each message of a connection: it answers from memory. A connection
        or stream whose grant no longer stands is ended within seconds.
        """
        ...


class Limits(Protocol):
    """Wrong credentials by address, counted over all processes that serve the same clients, by the
    rule of `access.Lockout`. A request with a right credential must cost next to nothing."""

    async def check(self, address: str) -> None:
        """Raises LockedOut, with the seconds that are left, while the address is locked out. Where
        the count cannot be read, the last one is used."""
        ...

    async def failed(
        self, address: str, limits: LockoutSettings, credential: Iterable[bytes | None]
    ) -> bool:
        """Count a wrong credential, of one or several secrets; True when that locks the address.
        Raises StoreFailed."""
        ...

    async def succeeded(self, address: str) -> None:
        """Forget the wrong credentials of the address, since a right one came from it. Raises
        StoreFailed."""
        ...


class DeviceBook(Protocol):
    """Where devices are kept: few of them, always read and written together."""

    async def load(self) -> DeviceState:
        """What was saved last; an empty state where nothing was saved. Raises StoreFailed for
        content that cannot be read, and does not change it."""
        ...

    async def newer(self) -> DeviceState | None:
        """What another process has saved since this one has loaded or saved; None where nothing
        was. Raises StoreFailed."""
        ...

    async def save(self, state: DeviceState) -> bool:
        """Replace the content, all or nothing. Returns when it is durable: it survives
        `kill -9`. Raises StoreFailed, and then the former content is unchanged.

        False, and nothing changes, where another process has saved meanwhile: see `newer`."""
        ...


class RunAdmission(StrEnum):
    """Whether a run of an API key may begin."""

    NEW = "new"
    KNOWN = "known"
    """A request before this one has begun it."""
    FULL = "full"
    """The key has as many runs at once as it may have."""


class KeyCounters(Protocol):
    """The requests per minute and the runs at once of API keys, over all processes that serve the
    same clients. Coroutines raise StoreFailed; of one process they do not suspend."""

    async def take(self, key_id: str, per_minute: int) -> float:
        """Take one of the requests that the key may send: `per_minute` at once, and then as fast as
        a minute has them. Returns 0, or the seconds until there is one."""
        ...

    def left(self, key_id: str, per_minute: int) -> float:
        """How many requests are left, as far as this process knows."""
        ...

    async def begin(
        self, key_id: str, run_id: str, most: int | None, *, known: bool
    ) -> RunAdmission:
        """Count a run of the key, unless it has `most` of them; None: it has no such limit.
        `known`: the run has begun before, and is not counted again."""
        ...

    def release(self, key_id: str, run_id: str) -> None:
        """A request for the run has begun none, or the run is no longer in this process."""
        ...

    def stopped(self, key_id: str, run_id: str) -> None:
        """The run has ended, or waits for a decision."""
        ...

    def running(self, key_id: str) -> int:
        """How many runs the key has at once, as far as this process knows."""
        ...

    async def flush(self) -> None:
        """Return when all that was counted is stored, or cannot be stored. Raises nothing."""
        ...


class KeyBook(Protocol):
    """Where API keys and their usage are kept. Every method raises StoreFailed."""

    async def load(self) -> tuple[ApiKey, ...]:
        """All keys, also revoked ones."""
        ...

    async def newer(self) -> tuple[ApiKey, ...] | None:
        """All keys, where another process has saved one since this one has loaded or saved; else
        None."""
        ...

    async def save(self, key: ApiKey) -> bool:
        """Add the key, or replace the one with its id. Returns when it is durable.

        False, and nothing changes, where another process has saved meanwhile: see `newer`."""
        ...

    async def usage(self, since: str) -> tuple[KeyUsage, ...]:
        """The usage of all keys from the day `since` on, in the order of the days. Days are those
        of UTC, such as 2026-01-31."""
        ...

    async def usage_of(self, key_id: str, since: str) -> tuple[KeyUsage, ...]:
        """The same of one key."""
        ...

    async def add_usage(self, rows: Sequence[KeyUsage]) -> tuple[KeyUsage, ...]:
        """Add to what the keys have used on these days, of which each is named once. Returns the
        sums when they are durable: they include what other processes have added."""
        ...

    async def close(self) -> None:
        """Finish writing and let go."""
        ...
