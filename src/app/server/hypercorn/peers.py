"""Limits the concurrent connections of one address."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from ....domain.access import owner_of, stands_for_many
from ....domain.bounded_logs import KIND
from ....domain.settings import Settings

logger = logging.getLogger(__name__)


class PeerConnections:
    """Counts open connections by the address of their peers.

    `limit`: the maximum per address; the addresses of one IPv6 network of 64 bits count as one.
    `uncounted`: peers without a limit, because many clients connect through them.
    """

    def __init__(self, limit: Callable[[], int], uncounted: Callable[[str], bool]) -> None:
        self._limit = limit
        self._uncounted = uncounted
        self._open: Counter[str] = Counter()

    @classmethod
    def by(cls, settings: Callable[[], Settings]) -> PeerConnections:
        """Limits from the settings in force when a connection arrives."""
        return cls(
            lambda: settings().max_connections_per_address,
            lambda peer: stands_for_many(peer, settings().trusted_proxies),
        )

    def enter(self, peer: str) -> bool:
        """Count a new connection; False, without counting it, if the peer has too many."""
        owner = owner_of(peer)
        if self._open[owner] >= self._limit() and not self._uncounted(peer):
            self._warn(peer)
            return False
        self._open[owner] += 1
        return True

    def leave(self, peer: str) -> None:
        """A connection for which `enter` returned True has ended."""
        owner = owner_of(peer)
        self._open[owner] -= 1
        if not self._open[owner]:
            del self._open[owner]

    def _warn(self, peer: str) -> None:
        logger.warning(
            "connections are refused: the address has gateway.maxConnectionsPerAddress of "
            "them already; where it is a reverse proxy, list it in gateway.trustedProxies",
            extra={"client": peer, "limit": self._limit(), KIND: "connections refused"},
        )
