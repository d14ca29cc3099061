"""Who is connected, as clients show it to people."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from .....domain.ports import Clock
from ..connection import Connection

_MOST = 200
_KEPT = 300.0
"""Seconds that an entry of somebody who has left is shown."""
_DEVICE_ID = re.compile(r"[0-9a-f]{64}")
_UNTRACKED = ("cli", "probe")


class Presence:
    """One entry for each device, instance or connection, the first of these that is known: two
    windows of one device are one entry, until both are closed. `version` grows with every change.
    """

    def __init__(self, clock: Clock, version: str) -> None:
        self._clock = clock
        self._entries: dict[str, dict[str, Any]] = {}
        self._here: dict[str, list[Connection]] = {}
        """The open connections behind an entry, the newest last."""
        self._self = {
            "host": socket.gethostname(),
            "version": version,
            "mode": "gateway",
            "reason": "self",
            "text": f"Gateway {version}",
        }
        self.version = 1

    def arrived(self, connection: Connection) -> bool:
        """A client has connected; False for programs that are not shown."""
        if _is_untracked(connection):
            return False
        key = _key(connection)
        here = self._here.setdefault(key, [])
        here.append(connection)
        self._put(key, _entry(here, "connect"))
        return True

    def left(self, connection: Connection) -> bool:
        """A client has disconnected. Its entry stays for a while and says so, or goes on to show
        the other connections of the same device."""
        if _is_untracked(connection):
            return False
        key = _key(connection)
        here = self._here.get(key, [])
        here.remove(connection)
        if here:
            self._put(key, {**self._entries.get(key, {}), **_entry(here, "connect")})
        else:
            del self._here[key]
            self._put(key, _entry([connection], "disconnect"))
        return True

    def told(self, key: str, facts: Mapping[str, Any]) -> None:
        """Somebody tells something of itself."""
        entry = self._entries.get(key.lower(), {})
        self._put(key.lower(), {**entry, **facts})

    def entries(self) -> list[dict[str, Any]]:
        """The Gateway first, then the newest; who left long ago is forgotten."""
        now = self._clock()
        for key, entry in list(self._entries.items()):
            if key not in self._here and entry["ts"] < (now - _KEPT) * 1_000:
                del self._entries[key]
        newest = sorted(self._entries.values(), key=lambda entry: -entry["ts"])
        return [{**self._self, "ts": int(now * 1_000)}, *newest[: _MOST - 1]]

    def _put(self, key: str, entry: dict[str, Any]) -> None:
        self._entries.pop(key, None)
        self._entries[key] = {**entry, "ts": int(self._clock() * 1_000)}
        while len(self._entries) > _MOST:
            del self._entries[next(iter(self._entries))]
        self.version += 1


def _is_untracked(connection: Connection) -> bool:
    return connection.client.mode in _UNTRACKED or connection.client.id == "cli"


def _key(connection: Connection) -> str:
    instance = (connection.client.instance_id or "").lower()
    if _DEVICE_ID.fullmatch(instance):
        instance = ""  # Only who has proven to be a device stands in its place.
    return connection.device_id or instance or connection.id.lower()


def _entry(connections: Sequence[Connection], reason: str) -> dict[str, Any]:
    """What the newest of the connections is, and what all of them together may do."""
    connection = connections[-1]
    client = connection.client
    told = {
        "host": client.display_name or client.id,
        "ip": connection.address,
        "version": client.version,
        "platform": client.platform,
        "deviceFamily": client.device_family,
        "modelIdentifier": client.model_identifier,
        "mode": client.mode,
        "reason": reason,
        "deviceId": connection.device_id,
        "roles": sorted({one.role for one in connections}),
        "scopes": sorted({scope for one in connections for scope in one.principal.scopes}),
        "instanceId": client.instance_id,
        "text": f"{client.display_name or client.id} {client.version}: {reason}",
    }
    return {name: value for name, value in told.items() if value is not None}
