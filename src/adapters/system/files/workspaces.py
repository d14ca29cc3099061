"""Workspaces on the disk. Files are opened below their directory, and links are not followed."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ....domain.errors import InvalidRequest
from ....domain.ports import Clock
from ....domain.ports.workspaces import FILE_NAMES, MAX_FILE_BYTES, WorkspaceFailed, WorkspaceFile

# Without waiting: a pipe of that name would never let the reader go.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class WorkspaceFiles:
    """The Workspaces of this machine. `state_dir`: workspaces in it may be moved aside; None:
    none may."""

    def __init__(self, state_dir: Path | None = None, clock: Clock = time.time) -> None:
        self._state_dir = state_dir
        self._clock = clock

    def ensure(self, workspace: str) -> bool:
        """See Workspaces."""
        path = _path(workspace)
        with _told(workspace):
            if path.is_dir():
                return False
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return True

    def find(self, workspace: str, name: str) -> WorkspaceFile | None:
        """See Workspaces."""
        _check(name)
        with _told(name), _directory(workspace) as directory:
            if directory is None:
                return None
            try:
                return _file(name, os.stat(name, dir_fd=directory, follow_symlinks=False))
            except FileNotFoundError:
                return None

    def read(self, workspace: str, name: str) -> tuple[WorkspaceFile, str] | None:
        """See Workspaces."""
        _check(name)
        with _told(name), _directory(workspace) as directory:
            if directory is None:
                return None
            with suppress(FileNotFoundError), _opened(directory, name) as opened:
                found = _file(name, os.fstat(opened))
                with open(opened, "rb", closefd=False) as file:
                    return found, _decoded(name, file.read(MAX_FILE_BYTES + 1))
        return None

    def write(self, workspace: str, name: str, text: str) -> WorkspaceFile:
        """See Workspaces."""
        _check(name)
        data = _encoded(text)
        if len(data) > MAX_FILE_BYTES:
            message = f"{name} would be longer than {MAX_FILE_BYTES} bytes."
            raise InvalidRequest(message, param="content")
        self.ensure(workspace)
        with _told(name), _directory(workspace) as directory:
            if directory is None:
                raise FileNotFoundError
            with suppress(FileNotFoundError):
                _file(name, os.stat(name, dir_fd=directory, follow_symlinks=False))
            _replace(directory, name, data)
            return _file(name, os.stat(name, dir_fd=directory, follow_symlinks=False))

    def retire(self, workspace: str) -> str | None:
        """See Workspaces."""
        path = _path(workspace)
        if self._state_dir is None or path.is_symlink() or not path.is_dir():
            return None
        with _told(workspace):
            real, state = path.resolve(strict=True), self._state_dir.resolve(strict=True)
            if real.parent != state or not real.name.startswith("workspace-"):
                return None
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
            aside = real.with_name(f"{real.name}.deleted.{stamp}")
            if aside.exists():
                aside = aside.with_name(f"{aside.name}-{uuid4().hex[:8]}")
            real.rename(aside)
        return str(aside)


def _check(name: str) -> None:
    if name not in FILE_NAMES:
        raise ValueError(f"{name!r} is not a file of a workspace")


def _path(workspace: str) -> Path:
    if not workspace or not os.path.isabs(workspace):
        raise WorkspaceFailed("The agent has no workspace: its path is not absolute.")
    return Path(workspace)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What the system says, in a sentence."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or "not possible").lower()
        raise WorkspaceFailed(f"{os.path.basename(name)} cannot be used: {why}.") from error


@contextmanager
def _directory(workspace: str) -> Iterator[int | None]:
    """The directory, open; None where it is missing."""
    try:
        opened = os.open(_path(workspace), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield opened
    finally:
        os.close(opened)


@contextmanager
def _opened(directory: int, name: str) -> Iterator[int]:
    """A file to read, whatever it is, but no link."""
    try:
        opened = os.open(name, _READ, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _not_plain(name) from None
        raise
    try:
        yield opened
    finally:
        os.close(opened)


def _file(name: str, found: os.stat_result) -> WorkspaceFile:
    if not stat.S_ISREG(found.st_mode):
        raise _not_plain(name)
    return WorkspaceFile(name, found.st_size, found.st_mtime)


def _not_plain(name: str) -> InvalidRequest:
    return InvalidRequest(f"{name} is not a plain file, so it is left alone.", param="name")


def _decoded(name: str, data: bytes) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise InvalidRequest(f"{name} is longer than {MAX_FILE_BYTES} bytes.", param="name")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name} is not a text in UTF-8.", param="name") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        message = "the text holds half of a surrogate pair, which is no character"
        raise InvalidRequest(message, param="content") from None


def _replace(directory: int, name: str, data: bytes) -> None:
    """Put a whole new file in the place of the old one."""
    fresh = f".{name}.{uuid4().hex}.tmp"
    try:
        with open(os.open(fresh, _CREATE, 0o600, dir_fd=directory), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        _forget(directory, fresh)
        raise
    os.fsync(directory)


def _forget(directory: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
