"""Opens the file of a run log; one that is damaged makes way for a new one.

A run log may do so, unlike a session store: what it holds is old news, and no conversation.
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from .....domain.errors import StoreFailed
from .....domain.ports import Clock
from ...common import DamageLog, Undecodable
from ..files import DatabaseFiles
from ..integrity import StoreDamaged, is_damage
from ..schema import open_database
from ..set_aside import set_aside
from .reads import Contents, read_contents
from .schema import RUNS
from .writes import count_lost

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedFile:
    connection: sqlite3.Connection
    files: DatabaseFiles
    contents: Contents


def open_run_log(path: Path, clock: Clock, damage: DamageLog) -> OpenedFile:
    """Raises StoreFailed naming the file when it is not ours, too new, or cannot be made."""
    try:
        return _open(path, damage)
    except StoreDamaged as damaged:
        return begin_anew(path, clock, damage, damaged)


def begin_anew(path: Path, clock: Clock, damage: DamageLog, reason: Exception) -> OpenedFile:
    """A new file in the place of one that is damaged, or that is not there any more.

    Raises StoreFailed.
    """
    try:
        aside = set_aside(path, clock())
    except OSError as error:
        raise StoreFailed(f"The run log {path} cannot be put aside: {error}.") from error
    begun = _open(path, damage)
    extra = {"reason": str(reason), "file": str(path), "kept_as": str(aside) if aside else None}
    logger.error("the run log was damaged or lost, and a new one has begun", extra=extra)
    return begun


def _open(path: Path, damage: DamageLog) -> OpenedFile:
    connection = open_database(path, kind=RUNS)
    try:
        count_lost(connection)
        contents = read_contents(connection, damage)
        files = DatabaseFiles(path)
    except (sqlite3.Error, Undecodable, OSError) as error:
        connection.close()
        if isinstance(error, Undecodable) or is_damage(error):
            raise StoreDamaged(f"The run log {path} is damaged: {error}.") from error
        raise StoreFailed(f"The run log {path} cannot be read: {error}.") from error
    return OpenedFile(connection, files, contents)
