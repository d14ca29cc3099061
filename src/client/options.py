"""The client's connection options."""

from __future__ import annotations

import platform
import random
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypedDict

import aiohttp

from .device import DeviceIdentity, DeviceTokens

CLIENT_VERSION = "1"
Tls = ssl.SSLContext | aiohttp.Fingerprint | bool


@dataclass(frozen=True, slots=True)
class Backoff:
    """The waits between attempts to reconnect, in seconds; `give_up_after` None: never.

    Each wait is `factor` times the previous one up to `longest`, minus a random share of at most
    `jitter`, so that many clients do not reconnect at the same moment.
    """

    first: float = 1.0
    factor: float = 1.5
    longest: float = 10.0
    jitter: float = 0.25
    give_up_after: float | None = 120.0

    def waits(self) -> Iterator[float]:
        """An endless sequence of waits."""
        wait = self.first
        while True:
            yield wait * (1 - self.jitter * random.random())  # noqa: S311 - no secret
            wait = min(wait * self.factor, self.longest)


class MoreOptions(TypedDict, total=False):
    """The keywords of `Client.connect`: the fields of Options except `url` and `scopes`."""

    token: str | None
    password: str | None
    role: str
    client_id: str
    mode: str
    display_name: str | None
    version: str
    caps: tuple[str, ...]
    min_protocol: int
    max_protocol: int
    device: DeviceIdentity | None
    device_tokens: DeviceTokens | None
    timeout: float
    tls: Tls
    reconnect: bool
    backoff: Backoff
    silence: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`timeout`: seconds for connecting and the handshake together. `tls`: True trusts the
    system's authorities, a fingerprint trusts exactly one certificate. `device_tokens` is used if
    there is neither token nor password."""

    url: str
    token: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    role: str = "operator"
    scopes: tuple[str, ...] = ("operator.read", "operator.write")
    client_id: str = "gateway-client"
    mode: str = "backend"
    display_name: str | None = None
    version: str = CLIENT_VERSION
    caps: tuple[str, ...] = ()
    min_protocol: int = 4
    max_protocol: int = 4
    device: DeviceIdentity | None = None
    device_tokens: DeviceTokens | None = None
    timeout: float = 10.0
    tls: Tls = True
    reconnect: bool = True
    backoff: Backoff = field(default_factory=Backoff)
    silence: float | None = None
    """Seconds without a message after which the connection is considered dead; None: two ticks."""

    @property
    def device_token(self) -> str | None:
        """The token that this Gateway issued to this device; None if another credential is set."""
        if self.token or self.password or self.device is None or self.device_tokens is None:
            return None
        return self.device_tokens.get(self.url, self.role)

    @property
    def platform(self) -> str:
        return platform.system().lower() or "unknown"

    @property
    def device_family(self) -> str:
        return platform.system() or "unknown"
