"""hypercorn's settings, extended by those of our classes."""

from __future__ import annotations

from dataclasses import dataclass

from hypercorn.config import Config

from .leaving import Leaving
from .peers import PeerConnections


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: between pings, for the answer to one, and for the close handshake."""

    ping_interval: float = 30.0
    pong_deadline: float = 25.0
    farewell: float = 2.0


class ServerConfig(Config):
    """A plain Config means the default timing, no limit of connections, no HTTP/2, and an end
    without a farewell."""

    crossing_seconds = 0.5
    """How long an idle connection is read on after the end of our data, for a request that was sent
    before the client has received it."""
    first_request_seconds = 20.0
    """Timeout for the head of the first request of a connection. With TLS, half of it is for the
    handshake."""
    http2 = False
    leaving: Leaving | None = None
    parting_seconds = 2.0
    """Timeout for the TLS shutdown of an idle connection."""
    peers: PeerConnections | None = None
    websocket_timing = Timing()
