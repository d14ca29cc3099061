"""One Gateway per state directory: the locks, and the note that tells others who holds them."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from ....domain.ports import Clock
from .directory_lock import DirectoryLock

LOCK_FILE = "gateway.lock"
HOLDER_FILE = "gateway.holder.json"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock. `since` is for a person; `address` is where it serves, or empty."""

    pid: int
    host: str
    since: str
    address: str

    def __str__(self) -> str:
        where = f", serving {self.address}" if self.address else ""
        return f"process {self.pid} on {self.host}, since {self.since}{where}"


class StateLocked(Exception):
    """The state directory belongs to another process. `holder` is None when it is not known.

    `store_dir`: it is another directory that is in use, the one of the session store.
    """

    def __init__(
        self, state_dir: Path, holder: Holder | None, *, store_dir: Path | None = None
    ) -> None:
        who = "another process" if holder is None else str(holder)
        where = f"state directory {state_dir}"
        if store_dir is not None:
            where = f"directory {store_dir}, which holds the database of {state_dir},"
        super().__init__(
            f"The {where} is in use by {who}."
            " Stop that one first, or use another directory (OPENSOUL_STATE_DIR)."
        )
        self.holder = holder


class StateLock:
    """An exclusive lock on a state directory, given back by the system when the process dies.

    It is a lock on a file in the directory, and one on the directory itself, since the file can be
    deleted. `store_dirs`: directories elsewhere that hold databases, locked in the same way, since
    two state directories may hold links to one database.

    The note beside the lock file only serves the message: it grants nothing, and one that was left
    behind by a killed process keeps nobody out.
    """

    def __init__(
        self,
        state_dir: Path | str,
        *,
        store_dirs: Iterable[Path] = (),
        clock: Clock = time.time,
    ) -> None:
        self._dir = Path(state_dir)
        self._store_dirs = tuple(store_dirs)
        self._locked: list[DirectoryLock] = []
        self._note = self._dir / HOLDER_FILE
        self._clock = clock
        self._lock = FileLock(self._dir / LOCK_FILE, mode=0o600, thread_local=False)
        self._since = ""

    def acquire(self, address: str = "") -> None:
        """Take the lock, or raise StateLocked at once; directories are made (0700) when missing.

        Raises OSError where no file can be written.
        """
        for directory in (self._dir, *self._store_dirs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise StateLocked(self._dir, _read_holder(self._note)) from None
        try:
            self._lock_directories()
        except BaseException:
            self._unlock()
            raise
        self._since = datetime.fromtimestamp(self._clock(), UTC).isoformat(" ", "seconds")
        self.announce(address)

    def _lock_directories(self) -> None:
        locked = set()
        for directory in (self._dir, *self._store_dirs):
            found = directory.stat()
            inode = found.st_dev, found.st_ino
            if inode in locked:
                continue
            lock = DirectoryLock(directory)
            if not lock.acquire():
                if directory is self._dir:
                    raise StateLocked(self._dir, _read_holder(self._note))
                raise StateLocked(self._dir, None, store_dir=directory)
            locked.add(inode)
            self._locked.append(lock)

    def _unlock(self) -> None:
        while self._locked:
            self._locked.pop().release()
        self._lock.release()

    def announce(self, address: str) -> None:
        """Tell others where the holder serves, once that is known. Only while holding the lock."""
        holder = Holder(os.getpid(), socket.gethostname(), self._since, address)
        draft = self._note.with_suffix(".tmp")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(holder), file)
        draft.replace(self._note)

    def release(self) -> None:
        """Give the lock back. Safe to call twice, and without having it."""
        if self._lock.is_locked:
            self._note.unlink(missing_ok=True)
            self._unlock()

    def __enter__(self) -> StateLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _read_holder(note: Path) -> Holder | None:
    """The holder that the note names, unless that one cannot be the holder any more."""
    with suppress(OSError, ValueError):
        match json.loads(note.read_text()):
            case {"pid": int(pid), "host": str(host), "since": str(since), "address": str(at)}:
                holder = Holder(pid, host, since, at)
                return holder if host != socket.gethostname() or _lives(pid) else None
    return None


def _lives(pid: int) -> bool:
    """Whether this machine has such a process (on Windows it cannot be asked harmlessly)."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # It lives, as somebody else's.
    return True
