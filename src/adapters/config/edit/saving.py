"""Replaces a file atomically, with private backups."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BACKUPS = 5


def save(file: Path, data: bytes) -> None:
    """Replace the content of `file`, which is not a link, and keep the former one as `.bak`.

    Up to `BACKUPS` are kept, the oldest as `.bak.4`, readable by their owner only.
    """
    with _prepared(file, data) as new:
        try:
            former = file.read_bytes()
        except FileNotFoundError:
            pass
        else:
            with _prepared(file, former) as backup:
                _rotate(file)
                os.replace(backup, _backup(file, 0))
        os.replace(new, file)
    _settle(file.parent)


def _backup(file: Path, age: int) -> Path:
    return file.with_name(f"{file.name}.bak{f'.{age}' if age else ''}")


def _rotate(file: Path) -> None:
    for age in range(BACKUPS - 1, 0, -1):
        younger = _backup(file, age - 1)
        if younger.exists():
            os.replace(younger, _backup(file, age))


@contextmanager
def _prepared(file: Path, data: bytes) -> Iterator[str]:
    """A private, durable file with `data`, in the same directory."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", suffix=".tmp", dir=file.parent)
    try:
        with open(descriptor, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(descriptor)
        yield name
    finally:
        Path(name).unlink(missing_ok=True)


def _settle(directory: Path) -> None:
    """Make the new name durable, on systems that can open a directory."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
