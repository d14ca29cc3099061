"""Reads rows with damaged cells as far as possible.

One damaged cell must not hide the rest of its row or the list that contains the row. A damaged cell
is easily made in SQLite, which accepts any value in any column, for example from the sqlite3 shell;
a cell of any database may be one of a newer version.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from ....domain.messages import Message, Role, text_message
from ....domain.sessions import SessionSettingsMap
from .codec import MAX_INTEGER, Undecodable, decode, readable_settings, text

E = TypeVar("E", bound=Enum)

logger = logging.getLogger(__name__)

UNREADABLE = "[This message is damaged in the session store and cannot be read.]"
"""Replaces a damaged message."""
_LATEST = 253_402_300_800.0
"""The year 10000, which `datetime` cannot represent."""
_MOST_LOGGED = 1_000


class DamageLog:
    """Logs each damaged cell once, although lists are read repeatedly. Thread-safe."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str]] = set()

    def note(self, place: str, cell: str, problem: str) -> None:
        """`place`: the session or run; `cell`: the name of the cell."""
        if (place, cell) in self._logged or len(self._logged) >= _MOST_LOGGED:
            return
        self._logged.add((place, cell))
        extra = {"place": place, "cell": cell, "reason": problem}
        logger.error("a stored cell is damaged and left out", extra=extra)


@dataclass(frozen=True, slots=True)
class Cells:
    """Reads the cells of one row; the damage is logged under `place`."""

    place: str
    log: DamageLog

    def text(self, name: str, value: object) -> str:
        """The text; invalid UTF-8 is replaced."""
        if isinstance(value, str):
            return value
        try:
            return text(value)  # type: ignore[arg-type]  # any type is possible
        except Undecodable as error:
            self.log.note(self.place, name, str(error))
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""

    def time(self, name: str, value: object) -> float:
        """Unix seconds; 0 for an invalid time."""
        if isinstance(value, float | int) and math.isfinite(value) and abs(value) < _LATEST:
            return value
        self.log.note(self.place, name, "it is not a time")
        return 0.0

    def count(self, name: str, value: object) -> int:
        """A number of tokens or messages; 0 for an invalid number."""
        if isinstance(value, int) and abs(value) <= MAX_INTEGER:
            return value
        self.log.note(self.place, name, "it is not a number")
        return 0

    def member(self, name: str, value: object, kind: type[E], otherwise: E) -> E:
        """The enumeration member with this value, or `otherwise`."""
        try:
            return kind(value)
        except ValueError:
            self.log.note(self.place, name, "its value is unknown")
        return otherwise

    def settings(self, name: str, value: object) -> SessionSettingsMap:
        """The readable settings."""
        settings, problem = readable_settings(value)
        if problem:
            self.log.note(self.place, name, problem)
        return settings

    def message(self, number: int, role: object, body: object) -> Message:
        """The message, or a replacement with the same role that says that it is damaged."""
        try:
            return decode(body)  # type: ignore[arg-type]  # any type is possible
        except Undecodable as error:
            self.log.note(self.place, f"message {number}", str(error))
        return text_message(Role.USER if role == Role.USER.value else Role.ASSISTANT, UNREADABLE)
