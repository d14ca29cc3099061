"""The generated token: created once per state directory, readable by its owner only."""

from __future__ import annotations

import errno
import os
import secrets
import shlex
from contextlib import suppress
from pathlib import Path

from .drafts import draft

FILE_NAME = "gateway-token"
_MAX_BYTES = 4_096
# Every right of the group and of others.
_OTHERS = 0o077


class TokenFileInvalid(OSError):
    """The token file exists but cannot be used; `strerror` says why, and what to do."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(errno.EPERM, f"{path} {problem}", str(path))

    def __str__(self) -> str:
        return str(self.strerror)


class TokenFile:
    """The random 256-bit token of one state directory, at `<state>/gateway-token`, mode 0600.

    Every method raises TokenFileInvalid for a file that is empty, is not a single word or can be
    read by others, and OSError for an error of the file system.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME

    @property
    def path(self) -> Path:
        """The file of the token; `rotate` replaces it."""
        return self._path

    def read_or_create(self) -> str:
        """The token. The first process creates it; all others read the same one."""
        try:
            return self._read()
        except FileNotFoundError:
            with draft(self._path, _new_token()) as prepared, suppress(FileExistsError):
                _put_first(prepared, self._path)
            return self._read()

    def rotate(self) -> str:
        """Replace the token atomically, and return the new one."""
        with draft(self._path, _new_token()) as prepared:
            os.replace(prepared, self._path)
        return self._read()

    def _read(self) -> str:
        with open(self._path, encoding="utf-8", errors="replace") as file:
            # On Windows the mode has no such bits.
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & _OTHERS:
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


def _new_token() -> bytes:
    return secrets.token_urlsafe(32).encode() + b"\n"


def _put_first(prepared: str, path: Path) -> None:
    """Give `prepared` the name `path`. Raises FileExistsError if another process was faster."""
    try:
        # A link appears complete or not at all, and never replaces a file.
        os.link(prepared, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links: a process that reads between these two calls reports an
        # empty file.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(Path(prepared).read_bytes())
