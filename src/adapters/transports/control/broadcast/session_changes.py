"""Passes changes of sessions between the processes of a Gateway, each once."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any, Final

from .....domain.ports import NodeBus, SessionChanges
from .....domain.sessions import SessionKey

_TOPIC: Final = "changes_of_sessions"
"""Not `session_changes`: processes of an earlier version read messages without an id there."""
_REMEMBERED: Final = 4_000
"""More than `SessionChanges.recent` returns."""

OnChange = Callable[[SessionKey, str, str], None]
"""Called with a Session, what was done to it, and the id of the message that was injected."""


class ChangesOfNodes:
    """Calls `changed` for each change of a Session by another process: when the message of it
    arrives, or, where that was lost, with the next call of `look`."""

    def __init__(self, bus: NodeBus, book: SessionChanges, changed: OnChange) -> None:
        self._bus = bus
        self._book = book
        self._changed = changed
        self._known: dict[str, None] = {}
        """Of changes of which `changed` need not be called, oldest first."""
        self._has_looked = False
        bus.subscribe(_TOPIC, self._received)

    async def publish(self, key: SessionKey, change: str, message_id: str) -> None:
        """This process has made a change. The message of it is sent at once, before this waits for
        anything. Raises StoreFailed where it cannot be repeated."""
        change_id = secrets.token_hex(8)
        # ASCII, also where a key is no valid text.
        body = json.dumps([*key, change, message_id, change_id])
        self._bus.publish(_TOPIC, body)
        await self._book.add(change_id, body)

    async def look(self) -> None:
        """Make up for lost messages. The first call only notes what there is: this process has had
        no clients before. Raises StoreFailed."""
        recent = await self._book.recent()
        is_first, self._has_looked = not self._has_looked, True
        for change_id, body in recent:
            if is_first:
                self._note(change_id)
            else:
                self._received(body)

    def _received(self, body: str) -> None:
        key, change, message_id, change_id = _read(body)
        if self._note(change_id):
            self._changed(key, change, message_id)

    def _note(self, change_id: str) -> bool:
        """False if the change is known."""
        if change_id in self._known:
            return False
        self._known[change_id] = None
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return True


def _read(body: str) -> tuple[SessionKey, Any, Any, Any]:
    """A later version may send more fields."""
    agent_id, rest, change, message_id, change_id, *_ = json.loads(body)
    return SessionKey(agent_id, rest), change, message_id, change_id
