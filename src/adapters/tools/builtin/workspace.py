"""Files of a workspace, opened so that no path leads out of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

from .tool import ToolFailed

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO would block until a writer appears.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40
"""Symbolic links that one path may pass, as in Linux."""
_LONGEST_PATH = 4_096
_DEEPEST = 64
"""Folders of one path. Each is an open file of the Gateway while the path is walked."""


@dataclass(frozen=True, slots=True)
class Place:
    """A name in an open directory of the workspace; "." for the workspace itself.

    The name was no symbolic link when it was looked up. It has to be used without following links,
    because it may have become one since.
    """

    directory: int
    name: str


class Workspace:
    """The directory at `root`, and what lies below it.

    A path is walked component by component, each opened relative to the descriptor of the one
    before, without following links. Links are read and walked in the same way, and `..` returns to
    a descriptor that the walk has passed. So every file is below the root at the time it is opened,
    whatever is renamed or replaced meanwhile: no check is made on a name and used later.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    @contextmanager
    def located(self, path: str, *, make: bool = False) -> Iterator[Place]:
        """The place that `path` names, which may be missing. `make`: missing folders are made.

        Raises ToolFailed for a path that leads out of the workspace, and OSError.
        """
        pending = self._components(path, path)
        passed = [os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        links = 0
        try:
            while pending:
                part = pending.pop()
                if part == "..":
                    if len(passed) == 1:
                        raise _outside(path)
                    os.close(passed.pop())
                    continue
                target = _target_of_link(passed[-1], part)
                if target is not None:
                    links += 1
                    if links > _MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    pending += self._components(target, path)
                    while os.path.isabs(target) and len(passed) > 1:
                        os.close(passed.pop())
                elif not pending:
                    yield Place(passed[-1], part)
                    return
                elif len(passed) > _DEEPEST:
                    raise ToolFailed(f"The path has more than {_DEEPEST} folders.")
                else:
                    if make:
                        with suppress(FileExistsError):
                            os.mkdir(part, dir_fd=passed[-1])
                    passed.append(os.open(part, _DIRECTORY, dir_fd=passed[-1]))
            yield Place(passed[-1], ".")
        finally:
            for directory in passed:
                os.close(directory)

    @contextmanager
    def file(self, path: str) -> Iterator[int]:
        """A descriptor of a regular file, for reading."""
        with self.located(path) as place, opened_file(place) as file:
            yield file

    def open_directory(self, path: str) -> int:
        """A descriptor of a directory, which the caller has to close."""
        with self.located(path) as place:
            return os.open(place.name, _DIRECTORY, dir_fd=place.directory)

    def _components(self, path: str, asked: str) -> list[str]:
        """The components, last first. An absolute path has to be one of the workspace."""
        if os.path.isabs(path):
            path = self._relative(path, asked)
        return [part for part in reversed(path.split("/")) if part not in ("", ".")]

    def _relative(self, path: str, asked: str) -> str:
        for root in (self._root, os.path.realpath(self._root)):
            if path == root or path.startswith(f"{root.rstrip('/')}/"):
                return path[len(root) :]
        raise _outside(asked)


@contextmanager
def opened_file(place: Place) -> Iterator[int]:
    """A descriptor of a regular file, for reading. Raises ToolFailed for anything else."""
    file = os.open(place.name, _READ, dir_fd=place.directory)
    try:
        require_regular(os.fstat(file))
        yield file
    finally:
        os.close(file)


def replace_file(
    place: Place, data: bytes, *, mode: int | None = None, was: os.stat_result | None = None
) -> None:
    """Write the file as a new one and rename it, so that it is complete at any time.

    A link that has taken its name meanwhile is replaced, not followed. `mode`: the permissions, by
    default those of a new file. `was`: raises ToolFailed if the file has been changed since.
    """
    fresh = f".{uuid4().hex}.tmp"
    try:
        with open(os.open(fresh, _CREATE, 0o666, dir_fd=place.directory), "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if was is not None:
            _require_unchanged(place, was)
        os.replace(fresh, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=place.directory)
        raise


def require_regular(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise ToolFailed("This is a directory, not a file.")
    if not stat.S_ISREG(found.st_mode):
        raise ToolFailed("This is not a regular file.")


@contextmanager
def for_the_model(path: str) -> Iterator[None]:
    """Check `path`, and turn what the system refuses into ToolFailed with that path."""
    _check(path)
    try:
        yield
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise ToolFailed(f"{path}: {why}.") from None


def _check(path: str) -> None:
    """Raises ToolFailed for a text that can be no path."""
    if "\0" in path or len(path) > _LONGEST_PATH:
        raise ToolFailed(f"The path contains a NUL or more than {_LONGEST_PATH} characters.")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ToolFailed("The path contains a lone surrogate, which no name has.") from None
    if path == "~" or path.startswith("~/"):
        raise ToolFailed("The path begins with '~'. Paths are relative to the workspace.")


def _target_of_link(directory: int, name: str) -> str | None:
    """Where a symbolic link leads; None for what is none, or is missing."""
    try:
        return os.readlink(name, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def _require_unchanged(place: Place, was: os.stat_result) -> None:
    now = None
    with suppress(FileNotFoundError):
        now = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
    if now is None or _version(now) != _version(was):
        raise ToolFailed("The file was changed while it was edited. Read it and try again.")


def _version(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _outside(path: str) -> ToolFailed:
    return ToolFailed(f"{path!r} leads out of the workspace. Use a path inside of it.")
