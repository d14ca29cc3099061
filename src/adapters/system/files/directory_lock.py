"""A lock on a directory itself: unlike a lock file, nobody can delete it and lock another one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class DirectoryLock:
    """An exclusive lock, given back by the system when the process ends.

    It is of the inode, so that two names of one directory (links, mounts) are one lock. It does not
    hinder programs that read or write files there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False where another has it. The directory must exist.

        True also where a directory cannot be locked (Windows, some network file systems).
        """
        if sys.platform == "win32":
            return True
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            return not isinstance(error, BlockingIOError)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back. Safe to call twice, and without having it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
