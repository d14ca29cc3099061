"""Files that appear at their path complete and durable, readable by their owner only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def draft(path: Path, content: bytes) -> Iterator[str]:
    """The name of a temporary file with that content, to be renamed or linked to `path`.

    It is in the same directory, which is created if it is missing, and is removed at the end.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield name
    finally:
        Path(name).unlink(missing_ok=True)
