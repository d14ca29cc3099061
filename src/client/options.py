"""How a client connects, and as what."""

from __future__ import annotations

import platform
import ssl
from dataclasses import dataclass, field
from typing import TypedDict

import aiohttp

from .backoff import Backoff
from .device import DeviceIdentity, DeviceTokens

CLIENT_VERSION = "1"
Tls = ssl.SSLContext | aiohttp.Fingerprint | bool


class MoreOptions(TypedDict, total=False):
    """What `Client.connect` takes beside an address and scopes: the other fields of Options."""

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
    """`timeout`: seconds for the connection and the handshake together. `tls`: True for the
    system's authorities; a fingerprint to trust one certificate and no other. `reconnect`: come
    back after a lost connection. `device_tokens` are used where there is neither token nor
    password."""

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
    """Seconds without a word after which the connection counts as dead; None: two ticks."""

    @property
    def device_token(self) -> str | None:
        """The token that this Gateway gave to this device, where nothing else is brought."""
        if self.token or self.password or self.device is None or self.device_tokens is None:
            return None
        return self.device_tokens.get(self.url, self.role)

    @property
    def platform(self) -> str:
        return platform.system().lower() or "unknown"

    @property
    def device_family(self) -> str:
        return platform.system() or "unknown"
