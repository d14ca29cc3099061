"""The list of connected clients, for display."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .....domain.ports import Clock
from ..connection import Connection

_MOST = 200
_KEPT = 300.0
"""Seconds for which the entry of a disconnected client is listed."""
_DEVICE_ID = re.compile(r"[0-9a-f]{64}")
_UNTRACKED = ("cli", "probe")

Listed = Mapping[str, Any]
"""A client as other processes get it: its `key`, whether it `isConnected`, and its `entry`."""


class Presence:
    """One entry per device, else per instance, else per connection. Several windows of a device
    share an entry until all of them are closed. `version` grows with every change.

    The clients of other processes of the Gateway are in the list, too; a device that is connected
    to several of them has one entry.
    """

    def __init__(self, clock: Clock, version: str) -> None:
        self._clock = clock
        self._entries: dict[str, dict[str, Any]] = {}
        self._connections: dict[str, list[Connection]] = {}
        """The open connections of an entry, the newest last."""
        self._others: Sequence[Sequence[Listed]] = ()
        self._on_change: Callable[[], None] = _nothing
        self._self = {
            "host": socket.gethostname(),
            "version": version,
            "mode": "gateway",
            "reason": "self",
            "text": f"Gateway {version}",
        }
        self.version = 1

    def connected(self, connection: Connection) -> bool:
        """Add a connection; False if its program is not listed."""
        if _is_untracked(connection):
            return False
        key = _key(connection)
        connections = self._connections.setdefault(key, [])
        connections.append(connection)
        self._put(key, _entry(connections, "connect"))
        return True

    def disconnected(self, connection: Connection) -> bool:
        """Remove a connection. The entry shows the device's other connections, or else the
        disconnection, for `_KEPT` seconds."""
        if _is_untracked(connection):
            return False
        key = _key(connection)
        connections = self._connections.get(key, [])
        connections.remove(connection)
        if connections:
            self._put(key, {**self._entries.get(key, {}), **_entry(connections, "connect")})
        else:
            del self._connections[key]
            self._put(key, _entry([connection], "disconnect"))
        return True

    def update(self, key: str, fields: Mapping[str, Any]) -> None:
        """Merge fields that a client reported into an entry."""
        entry = self._entries.get(key.lower(), {})
        self._put(key.lower(), {**entry, **fields})

    def entries(self) -> list[dict[str, Any]]:
        """The Gateway's entry, then the others, newest first; expired ones are removed."""
        now = self._clock()
        own = self.clients()
        listed = _merged((own, *self._others)) if self._others else [one["entry"] for one in own]
        newest = sorted(listed, key=lambda entry: -entry["ts"])
        return [{**self._self, "ts": int(now * 1_000)}, *newest[: _MOST - 1]]

    def clients(self) -> list[Listed]:
        """The clients of this process; expired ones are removed."""
        oldest = (self._clock() - _KEPT) * 1_000
        for key, entry in list(self._entries.items()):
            if key not in self._connections and entry["ts"] < oldest:
                del self._entries[key]
        return [
            {"key": key, "isConnected": key in self._connections, "entry": entry}
            for key, entry in self._entries.items()
        ]

    def set_others(self, others: Sequence[Sequence[Listed]]) -> bool:
        """Replace the clients of the other processes; False if they are the same."""
        if others == self._others:
            return False
        self._others = others
        self.version += 1
        return True

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each change of the clients of this process."""
        self._on_change = listener

    def _put(self, key: str, entry: dict[str, Any]) -> None:
        self._entries.pop(key, None)
        self._entries[key] = {**entry, "ts": int(self._clock() * 1_000)}
        while len(self._entries) > _MOST:
            del self._entries[next(iter(self._entries))]
        self.version += 1
        self._on_change()


def _nothing() -> None:
    """No other process lists the clients."""


def _merged(processes: Iterable[Sequence[Listed]]) -> list[dict[str, Any]]:
    """One entry per client: the newest of its connections, with the roles and scopes of all of
    them, or else its newest disconnection."""
    merged: dict[str, dict[str, Any]] = {}
    connected: set[str] = set()
    every = [listed for process in processes for listed in process]
    for listed in sorted(every, key=lambda one: (one["isConnected"], one["entry"]["ts"])):
        key, entry = listed["key"], dict(listed["entry"])
        if key in connected:
            for name in ("roles", "scopes"):
                entry[name] = sorted({*entry.get(name, ()), *merged[key].get(name, ())})
        if listed["isConnected"]:
            connected.add(key)
        merged[key] = entry
    return list(merged.values())


def _is_untracked(connection: Connection) -> bool:
    return connection.client.mode in _UNTRACKED or connection.client.id == "cli"


def _key(connection: Connection) -> str:
    instance = (connection.client.instance_id or "").lower()
    if _DEVICE_ID.fullmatch(instance):
        instance = ""  # A device id counts only if the connection has proven it.
    return connection.device_id or instance or connection.id.lower()


def _entry(connections: Sequence[Connection], reason: str) -> dict[str, Any]:
    """The newest connection's client, with the roles and scopes of all of them."""
    connection = connections[-1]
    client = connection.client
    fields = {
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
    return {name: value for name, value in fields.items() if value is not None}
