"""Workspaces on disk. Files are opened relative to their directory; links are not followed."""

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

# O_NONBLOCK: opening a FIFO of that name would block until a writer appears.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class WorkspaceFiles:
    """The Workspaces port on the file system. Only workspaces directly in `state_dir` may be
    retired."""

    def __init__(self, state_dir: Path | None = None, clock: Clock = time.time) -> None:
        self._state_dir = state_dir
        self._clock = clock

    def ensure(self, workspace: str) -> bool:
        path = _path(workspace)
        with _os_errors(workspace):
            if path.is_dir():
                return False
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return True

    def find(self, workspace: str, name: str) -> WorkspaceFile | None:
        _check(name)
        with _os_errors(name), suppress(FileNotFoundError), _directory(workspace) as directory:
            return _stat(directory, name)
        return None

    def read(self, workspace: str, name: str) -> tuple[WorkspaceFile, str] | None:
        _check(name)
        with (
            _os_errors(name),
            suppress(FileNotFoundError),
            _directory(workspace) as directory,
            _opened(directory, name) as opened,
        ):
            found = _file(name, os.fstat(opened))
            with open(opened, "rb", closefd=False) as file:
                return found, _decoded(name, file.read(MAX_FILE_BYTES + 1))
        return None

    def write(self, workspace: str, name: str, text: str) -> WorkspaceFile:
        _check(name)
        data = _encoded(text)
        if len(data) > MAX_FILE_BYTES:
            message = f"{name} would be longer than {MAX_FILE_BYTES} bytes."
            raise InvalidRequest(message, param="content")
        self.ensure(workspace)
        with _os_errors(name), _directory(workspace) as directory:
            with suppress(FileNotFoundError):
                _stat(directory, name)
            _replace(directory, name, data)
            return _stat(directory, name)

    def retire(self, workspace: str) -> str | None:
        path = _path(workspace)
        if self._state_dir is None or path.is_symlink() or not path.is_dir():
            return None
        with _os_errors(workspace):
            real, state = path.resolve(strict=True), self._state_dir.resolve(strict=True)
            if real.parent != state or not real.name.startswith("workspace-"):
                return None
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
            target = real.with_name(f"{real.name}.deleted.{stamp}")
            if target.exists():
                target = target.with_name(f"{target.name}-{uuid4().hex[:8]}")
            real.rename(target)
        return str(target)


def _check(name: str) -> None:
    if name not in FILE_NAMES:
        raise ValueError(f"{name!r} is not a file of a workspace")


def _path(workspace: str) -> Path:
    if not workspace or not os.path.isabs(workspace):
        raise WorkspaceFailed("The agent's workspace is not an absolute path.")
    return Path(workspace)


@contextmanager
def _os_errors(name: str) -> Iterator[None]:
    """Turn an OSError into WorkspaceFailed."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or "not possible").lower()
        raise WorkspaceFailed(f"{os.path.basename(name)} cannot be used: {why}.") from error


@contextmanager
def _directory(workspace: str) -> Iterator[int]:
    opened = os.open(_path(workspace), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield opened
    finally:
        os.close(opened)


@contextmanager
def _opened(directory: int, name: str) -> Iterator[int]:
    """A descriptor for reading; raises InvalidRequest for a symbolic link."""
    try:
        opened = os.open(name, _READ, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _not_a_regular_file(name) from None
        raise
    try:
        yield opened
    finally:
        os.close(opened)


def _stat(directory: int, name: str) -> WorkspaceFile:
    return _file(name, os.stat(name, dir_fd=directory, follow_symlinks=False))


def _file(name: str, found: os.stat_result) -> WorkspaceFile:
    if not stat.S_ISREG(found.st_mode):
        raise _not_a_regular_file(name)
    return WorkspaceFile(name, found.st_size, found.st_mtime)


def _not_a_regular_file(name: str) -> InvalidRequest:
    return InvalidRequest(f"{name} is not a regular file.", param="name")


def _decoded(name: str, data: bytes) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise InvalidRequest(f"{name} is longer than {MAX_FILE_BYTES} bytes.", param="name")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name} is not valid UTF-8 text.", param="name") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        message = "the text contains a lone surrogate, which UTF-8 cannot encode"
        raise InvalidRequest(message, param="content") from None


def _replace(directory: int, name: str, data: bytes) -> None:
    fresh = f".{name}.{uuid4().hex}.tmp"
    try:
        with open(os.open(fresh, _CREATE, 0o600, dir_fd=directory), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=directory)
        raise
    os.fsync(directory)
