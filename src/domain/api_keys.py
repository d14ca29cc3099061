"""API keys of clients, their limits and their usage, as they are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .errors import InvalidRequest
from .scopes import Scope
from .text import unsafe_in_name

KEY_PREFIX = "osk_"
"""The first characters of every generated key, by which secret scanners find one."""
DEFAULT_SCOPES = frozenset({Scope.READ, Scope.WRITE})
_OF_THE_GATEWAY = frozenset({Scope.ADMIN, Scope.PAIRING, Scope.TALK_SECRETS})
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key may use; None: unlimited. Days and months are those of UTC; `cost` is in US
    dollars."""

    requests_per_minute: int | None = None
    runs_at_once: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    cost_per_month: float | None = None

    @property
    def has_quotas(self) -> bool:
        """Whether tokens or cost are limited."""
        quotas = (self.tokens_per_day, self.tokens_per_month, self.cost_per_month)
        return any(quota is not None for quota in quotas)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client's key. Its sessions, runs and approvals are its own, and no other key's.

    `agents`: the only agents that it may use; None: all. Times are Unix seconds.
    """

    id: str
    name: str
    digest: str = field(repr=False)
    """See `key_digest`."""
    created_at: float = 0.0
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    agents: frozenset[str] | None = None
    limits: KeyLimits = field(default_factory=KeyLimits)
    expires_at: float | None = None
    rotated_at: float | None = None
    revoked_at: float | None = None
    configured: bool = False
    """It comes from the configuration, and is changed there."""

    def is_valid(self, now: float) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def status(self, now: float) -> str:
        """active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.is_valid(now) else "expired"


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """What a key has used on one day of UTC, such as 2026-01-31. `cost` is in US dollars;
    `unpriced` counts what has no known price."""

    key_id: str
    day: str
    requests: int = 0
    runs: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    cost: float = 0.0
    unpriced: int = 0

    @property
    def tokens(self) -> int:
        return self.input + self.output

    def plus(self, other: KeyUsage) -> KeyUsage:
        """The sum, with the key and the day of this one."""
        return KeyUsage(
            self.key_id,
            self.day,
            self.requests + other.requests,
            self.runs + other.runs,
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.cost + other.cost,
            self.unpriced + other.unpriced,
        )

    def minus(self, other: KeyUsage) -> KeyUsage:
        """The difference, with the key and the day of this one."""
        return KeyUsage(
            self.key_id,
            self.day,
            self.requests - other.requests,
            self.runs - other.runs,
            self.input - other.input,
            self.output - other.output,
            self.cached - other.cached,
            self.cost - other.cost,
            self.unpriced - other.unpriced,
        )


def key_digest(secret: bytes) -> str:
    """The stored digest of a key. Keys are random, so a plain digest reveals nothing."""
    return hashlib.sha256(secret).hexdigest()


def day_of(at: float) -> str:
    """The day of UTC at a Unix time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def month_of(day: str) -> str:
    return day[:7]


def seconds_left_of_day(at: float) -> float:
    return 86_400.0 - at % 86_400.0


def seconds_left_of_month(at: float) -> float:
    now = datetime.fromtimestamp(at, UTC)
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return datetime(year, month, 1, tzinfo=UTC).timestamp() - at


def check_key_name(name: str) -> str:
    """The name without surrounding space. Raises InvalidRequest."""
    problem = unsafe_in_name(name)
    if not problem and not 1 <= len(name.strip()) <= _LONGEST_NAME:
        problem = f"must have 1 to {_LONGEST_NAME} characters"
    if problem:
        raise InvalidRequest(f"The name of the key {problem}.", param="name")
    return name.strip()


def scopes_of_names(names: Iterable[str]) -> frozenset[Scope]:
    """Scopes by their names, `operator.` may be left out. Raises InvalidRequest."""
    known = {scope.value: scope for scope in Scope}
    known |= {scope.value.removeprefix("operator."): scope for scope in Scope}
    found = set()
    for name in names:
        if name.strip() not in known:
            raise InvalidRequest(
                f"unknown scope: {name}; known are {', '.join(sorted(Scope))}", param="scopes"
            )
        found.add(known[name.strip()])
    return frozenset(found)


def check_scopes(scopes: frozenset[Scope], agents: frozenset[str] | None) -> None:
    """Raises InvalidRequest for scopes that a key of these agents would not hold."""
    if not scopes:
        raise InvalidRequest("A key needs at least one scope.", param="scopes")
    whole = sorted(scopes & _OF_THE_GATEWAY)
    if whole and (agents is not None or Scope.ADMIN not in scopes):
        raise InvalidRequest(
            f"{', '.join(whole)} concerns the whole Gateway: only a key for all agents with "
            "operator.admin has it.",
            param="scopes",
        )
