"""One Gateway per state directory: the locks, and the file that describes their holder."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ....domain.ports import Clock

if sys.platform != "win32":
    import fcntl

LOCK_FILE = "gateway.lock"
HOLDER_FILE = "gateway.holder.json"


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a lock. `since` is a date for people; `address`: where it listens, or empty."""

    pid: int
    host: str
    since: str
    address: str

    def __str__(self) -> str:
        where = f", serving {self.address}" if self.address else ""
        return f"process {self.pid} on {self.host}, since {self.since}{where}"

    @property
    def may_be_running(self) -> bool:
        """Whether its process exists; True on another machine, which cannot be checked, and on
        Windows, where `os.kill` would end the process."""
        if self.host != socket.gethostname() or sys.platform == "win32":
            return True
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass  # It exists, owned by another user.
        return True


class StateLocked(Exception):
    """The state directory is in use by another process. `holder` is None if it is unknown.

    `store_dir`: the directory in use is this one, which holds the session database.
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
            " Stop that process first, or set OPENSOUL_STATE_DIR to another directory."
        )
        self.holder = holder


class StateLock:
    """An exclusive lock on a state directory, released by the operating system on process exit.

    It consists of a lock on a file in the directory and a lock on the directory itself, because
    the file can be deleted. `store_dirs`: further directories with databases, which are locked as
    well, because two state directories may link to the same database.

    The holder file beside the lock file is only used for error messages. That of a killed
    process has no effect.
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
        self._locks = ExitStack()
        self._holder_file = self._dir / HOLDER_FILE
        self._clock = clock
        self._lock = FileLock(self._dir / LOCK_FILE, mode=0o600, thread_local=False)
        self._since = ""

    def acquire(self, address: str = "") -> None:
        """Take the lock without waiting. Missing directories are created with mode 0700.

        Raises StateLocked if another process holds it, OSError if files cannot be written.
        """
        for directory in (self._dir, *self._store_dirs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as locks:
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise StateLocked(self._dir, self._running_holder()) from None
            locks.callback(self._lock.release)
            self._lock_directories(locks)
            self._locks = locks.pop_all()
        self._since = datetime.fromtimestamp(self._clock(), UTC).isoformat(" ", "seconds")
        self.announce(address)

    def _lock_directories(self, locks: ExitStack) -> None:
        locked = set()
        for directory in (self._dir, *self._store_dirs):
            found = directory.stat()
            inode = found.st_dev, found.st_ino
            if inode in locked:
                continue
            try:
                _lock_directory(directory, locks)
            except BlockingIOError:
                if directory is self._dir:
                    raise StateLocked(self._dir, self._running_holder()) from None
                raise StateLocked(self._dir, None, store_dir=directory) from None
            locked.add(inode)

    def _running_holder(self) -> Holder | None:
        holder = read_holder(self._dir)
        return holder if holder is not None and holder.may_be_running else None

    def announce(self, address: str) -> None:
        """Write the address to the holder file. Call it only while holding the lock."""
        holder = Holder(os.getpid(), socket.gethostname(), self._since, address)
        draft = self._holder_file.with_suffix(".tmp")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(holder), file)
        draft.replace(self._holder_file)

    def release(self) -> None:
        """Release the lock. Does nothing if it is not held."""
        if self._lock.is_locked:
            self._holder_file.unlink(missing_ok=True)
            self._locks.close()


def _lock_directory(path: Path, locks: ExitStack) -> None:
    """Lock a directory until `locks` is closed; raises BlockingIOError if another process holds it.

    The lock belongs to the inode, so different names of one directory (links, mounts) share it.
    Does nothing if directories cannot be locked (Windows, some network file systems).
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    locks.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, BlockingIOError):
            raise


def read_holder(state_dir: Path) -> Holder | None:
    """The holder that the holder file describes, whether or not its process is running."""
    with suppress(OSError, ValueError):
        match json.loads((state_dir / HOLDER_FILE).read_text()):
            case {"pid": int(pid), "host": str(host), "since": str(since), "address": str(at)}:
                return Holder(pid, host, since, at)
    return None
