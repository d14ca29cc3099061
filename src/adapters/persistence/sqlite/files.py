"""Detects that the files of an open database were deleted, replaced or truncated.

SQLite does not notice: it continues to write to the files that it has open.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from .integrity import Damaged, check_all
from .schema import open_reader


class FileLost(OSError):
    """The path of a database no longer refers to the open file."""


class DatabaseFiles:
    """The identity of a database and its write-ahead log; create it right after opening them.

    `-shm` is not checked, because SQLite rebuilds it from the log.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._log = f"{path.resolve()}-wal"
        found = os.stat(self._path)
        self._inode = found.st_dev, found.st_ino
        self._size = found.st_size
        self._log_inode: tuple[int, int] | None = None
        self._damage: Damaged | None = None
        with suppress(FileNotFoundError):
            log = os.stat(self._log)
            self._log_inode = log.st_dev, log.st_ino

    def seem_in_place(self) -> bool:
        """A quick check with one system call, for every run; if False, call `check`."""
        try:
            found = os.stat(self._path)
        except OSError:
            return False
        return (
            self._damage is None
            and (found.st_dev, found.st_ino) == self._inode
            and (found.st_size >= self._size)
        )

    def check(self) -> None:
        """Raises FileLost, or Damaged if the database was truncated. Takes two system calls, but
        reads the whole database if it has become shorter."""
        if self._damage is not None:
            raise self._damage
        found = self._stat(self._path, self._inode)
        if self._log_inode is not None:
            self._stat(self._log, self._log_inode)
        if found.st_size < self._size:
            self._check_content(found.st_size)
        self._size = found.st_size

    def _stat(self, path: str, inode: tuple[int, int]) -> os.stat_result:
        try:
            found = os.stat(path)
        except OSError as error:
            raise FileLost(f"{path} was deleted or moved while it was in use") from error
        if (found.st_dev, found.st_ino) != inode:
            raise FileLost(f"{path} was replaced by another file while it was in use")
        return found

    def _check_content(self, size: int) -> None:
        """Check a database that has become shorter, perhaps by VACUUM in another program. Uses a
        new connection, whose cache is empty."""
        try:
            if not size:  # SQLite would treat it as new and delete its log.
                raise Damaged("it is empty")
            with closing(open_reader(Path(self._path))) as connection:
                check_all(connection)
        except sqlite3.Error as error:
            cut = f"{self._path} was truncated while it was in use: {error}"
            self._damage = Damaged(cut)
            raise self._damage from error
