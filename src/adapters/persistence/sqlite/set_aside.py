"""Renames damaged databases, so that a new one can be created at the path."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

_MARK = ".damaged-"
_SUFFIXES = ("", "-wal", "-shm")
_KEPT = 3
"""The newest renamed databases that are kept; older ones are deleted, so that a failing disk does
not fill up."""


def set_aside(path: Path, at: float) -> Path | None:
    """Rename the database and its log; returns the new path, or None if there was no database.

    Raises OSError.
    """
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside, count = path.with_name(f"{path.name}{_MARK}{stamp}"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}{_MARK}{stamp}.{count}")
    moved = [_moved(path, aside, suffix) for suffix in _SUFFIXES]
    _keep_the_newest(path)
    return aside if any(moved) else None


def put_aside(directory: Path) -> list[Path]:
    """The renamed databases in a directory."""
    found = directory.glob(f"*{_MARK}*")
    return sorted(path for path in found if not path.name.endswith(_SUFFIXES[1:]))


def _moved(path: Path, aside: Path, suffix: str) -> bool:
    try:
        os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    except FileNotFoundError:
        return False
    return True


def _keep_the_newest(path: Path) -> None:
    others = [one for one in put_aside(path.parent) if one.name.startswith(f"{path.name}{_MARK}")]
    others.sort(key=lambda one: one.stat().st_ctime)  # Renaming changes it.
    for old in others[:-_KEPT]:
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                os.unlink(f"{old}{suffix}")
