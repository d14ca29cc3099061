"""A lock on a directory itself, which cannot be bypassed by deleting a lock file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class DirectoryLock:
    """An exclusive advisory lock that the operating system releases when the process ends.

    The lock belongs to the inode, so different names of one directory (links, mounts) share it. It
    does not prevent other programs from reading or writing files in the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False if another process holds it. The directory must exist.

        Also True if directories cannot be locked (Windows, some network file systems).
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
        """Release the lock. Does nothing if it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
