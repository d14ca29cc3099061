"""The generated token: made once per state directory, kept where only its owner can read it."""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILE_NAME = "gateway-token"
_MAX_BYTES = 4_096
# Group and others: any of their rights is one too many.
_STRANGERS = 0o077


class TokenFileInvalid(OSError):
    """The token file is there and must not be used; `strerror` says why, and what to do."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(errno.EPERM, f"{path} {problem}", str(path))

    def __str__(self) -> str:
        return str(self.strerror)


class TokenFile:
    """The random 256-bit token of one state directory, at `<state>/gateway-token`, mode 0600.

    Every method raises TokenFileInvalid for a file that is empty, is no single word or can be
    read by others, and OSError where the file system refuses.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME

    @property
    def path(self) -> Path:
        """Where the token is kept; rotating replaces the file there."""
        return self._path

    def read_or_create(self) -> str:
        """The token. Whoever comes first makes it; all others, at the same moment too, read it."""
        try:
            return self._read()
        except FileNotFoundError:
            with self._prepared() as prepared:
                _put_first(prepared, self._path)
            return self._read()

    def rotate(self) -> str:
        """Put a new token in the place of the old one, at once for every reader, and return it."""
        with self._prepared() as prepared:
            os.replace(prepared, self._path)
        return self._read()

    def _read(self) -> str:
        with open(self._path, encoding="utf-8", errors="replace") as file:
            # Windows has no such rights: what the mode says there means nothing.
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & _STRANGERS:
                raise self._invalid(
                    "can be read or changed by others. If nobody has seen it: "
                    f"chmod 600 {shlex.quote(str(self._path))}; otherwise make a new one"
                )
            token = file.read(_MAX_BYTES).strip()
        if not token:
            raise self._invalid("is empty. Make a new token")
        if not token.isprintable() or len(token.split()) != 1:
            raise self._invalid("does not hold one token. Make a new one")
        return token

    def _invalid(self, problem: str) -> TokenFileInvalid:
        return TokenFileInvalid(self._path, f"{problem}: opensoul token rotate")

    @contextmanager
    def _prepared(self) -> Iterator[str]:
        """A new token, complete and durable, in a file of its own next to its final place."""
        directory = self._path.parent
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{FILE_NAME}-", dir=directory)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
                file.flush()
                os.fsync(descriptor)
            yield name
        finally:
            Path(name).unlink(missing_ok=True)


def _put_first(prepared: str, path: Path) -> None:
    """Give `prepared` the name `path`, unless somebody was faster."""
    with suppress(FileExistsError):
        try:
            # A link appears complete or not at all, and never replaces a file.
            os.link(prepared, path)
        except FileExistsError:
            raise
        except OSError:
            # No links on this file system: as safe, but who reads between these two calls is told
            # that the file is empty.
            with open(path, "xb", opener=_private) as file:
                file.write(Path(prepared).read_bytes())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
