"""Who is connected, as clients show it to people."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import Any

from ....domain.ports import Clock
from .connection import Connection

_MOST = 200
_KEPT = 300.0
"""Seconds that an entry of somebody who has left is shown."""
_DEVICE_ID = re.compile(r"[0-9a-f]{64}")
_UNTRACKED = ("cli", "probe")


class Presence:
    """Entries by device, instance or connection. `version` grows with every change."""

    def __init__(self, clock: Clock, version: str) -> None:
        self._clock = clock
        self._entries: dict[str, dict[str, Any]] = {}
        self._here: set[str] = set()
        self._self = {
            "host": socket.gethostname(),
            "version": version,
            "mode": "gateway",
            "reason": "self",
            "text": f"Gateway {version}",
        }
        self.version = 1

    def arrived(self, connection: Connection) -> bool:
        """Somebody has come; False for programs that come and go unnoticed."""
        return self._note(connection, "connect")

    def left(self, connection: Connection) -> bool:
        """Somebody has gone; the entry stays for a while and says so."""
        self._here.discard(_key(connection))
        return self._note(connection, "disconnect")

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

    def _note(self, connection: Connection, reason: str) -> bool:
        if connection.client.mode in _UNTRACKED or connection.client.id == "cli":
            return False
        if reason == "connect":
            self._here.add(_key(connection))
        self._put(_key(connection), _entry(connection, reason))
        return True

    def _put(self, key: str, entry: dict[str, Any]) -> None:
        self._entries.pop(key, None)
        self._entries[key] = {**entry, "ts": int(self._clock() * 1_000)}
        while len(self._entries) > _MOST:
            del self._entries[next(iter(self._entries))]
        self.version += 1


def _key(connection: Connection) -> str:
    instance = (connection.client.instance_id or "").lower()
    if _DEVICE_ID.fullmatch(instance):
        instance = ""  # Only who has proven to be a device stands in its place.
    return connection.device_id or instance or connection.id.lower()


def _entry(connection: Connection, reason: str) -> dict[str, Any]:
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
        "roles": [connection.role],
        "scopes": sorted(connection.principal.scopes),
        "instanceId": client.instance_id,
        "text": f"{client.display_name or client.id} {client.version}: {reason}",
    }
    return {name: value for name, value in told.items() if value is not None}
