"""Whether the disk of a store can take what the next turn may need."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_PLENTY = 16 * 1024 * 1024
"""Bytes free on the disk above which there is no reason to try."""
_TRIED = 256 * 1024
"""Bytes that are written to find out: more than a turn usually takes, with its indexes."""


def is_short(directory: Path) -> bool:
    """Whether the disk is nearly full, or was mounted anew for reading only. One system call, so
    that it can be asked for every run."""
    try:
        if not hasattr(os, "statvfs"):
            return shutil.disk_usage(directory).free < _PLENTY
        disk = os.statvfs(directory)
        return bool(disk.f_flag & os.ST_RDONLY) or disk.f_bavail * disk.f_frsize < _PLENTY
    except OSError:
        return True  # It is found out what is wrong by trying.


def try_to_write(directory: Path) -> None:
    """Write a file without a name, which is gone when it is closed. Raises OSError.

    The free space that the system reports decides nothing: reserved blocks and quotas differ by
    user, and SQLite writes its log anew before it makes it longer.
    """
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        rest = memoryview(bytes(_TRIED))
        while rest:
            rest = rest[file.write(rest) :]
