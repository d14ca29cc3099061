"""hypercorn's settings with those of our classes."""

from __future__ import annotations

from dataclasses import dataclass

from hypercorn.config import Config

from .peers import PeerConnections


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: between pings, that the peer has to answer one, and that a farewell may take."""

    ping_interval: float = 30.0
    pong_deadline: float = 25.0
    farewell: float = 2.0


class ServerConfig(Config):
    """A plain Config means the default timing, no limit of connections and no HTTP/2."""

    first_request_seconds = 20.0
    """How long a new connection may take for the head of its first request. With TLS, half of it
    is for the handshake."""
    http2 = False
    parting_seconds = 2.0
    """How long an idle TLS client may take to agree to the connection's end."""
    peers: PeerConnections | None = None
    websocket_timing = Timing()
