"""Checks of files: configuration, secrets, permissions, and the note of the lock."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.holder import holder_of, lives
from . import Finding

if TYPE_CHECKING:
    from ..common.errors import CommandError

_OTHER_USERS = 0o077
_UNSET = "Set it where the Gateway is started, or in the `env` block of the configuration file."
_SECRET_DIRECTORIES = ("identity",)
_SECRET = re.compile(
    r"""(token|password|secret|api_?key|authorization)["']?\s*:\s*["'](?!\$\{\w+\})[^"']""",
    re.IGNORECASE,
)


def token(state_dir: Path) -> Iterator[Finding]:
    """Whether the generated token, which is needed, is missing or unusable."""
    from ....adapters.system.files import TokenFile

    file = TokenFile(state_dir)
    if not file.path.exists():

        def make() -> None:
            file.read_or_create()

        yield Finding(
            "token_missing",
            f"There is no token yet: no secret is configured, and {file.path} does not exist.",
            "It is created when the Gateway starts for the first time.",
            make,
        )
        return
    if file.path.stat().st_mode & _OTHER_USERS:
        return  # Reported among the permissions.
    try:
        file.read_or_create()
    except OSError as error:
        yield Finding("token_invalid", str(error), "Make a new one: opensoul token rotate")


def configuration(refused: CommandError) -> Iterator[Finding]:
    """A finding for each issue of the configuration."""
    if not refused.issues:
        yield Finding(refused.code, refused.message, "Correct it.")
    for issue in refused.issues:
        place = ":".join(str(part) for part in (issue["file"], issue["line"]) if part)
        path = f"{issue['path']}: " if issue["path"] else ""
        is_unset = "environment variable" in str(issue["message"])
        yield Finding(
            "config_invalid",
            f"{place}: {path}{issue['message']}",
            _UNSET if is_unset else "See docs/configuration.md, or `opensoul config reference`.",
        )


def directory(path: Path) -> Iterator[Finding]:
    """Whether the state directory is usable."""
    if not path.exists():
        yield Finding(
            "state_dir_missing",
            f"The state directory {path} does not exist.",
            "It is created when the Gateway starts for the first time.",
            partial(path.mkdir, mode=0o700, parents=True, exist_ok=True),
        )
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            "state_dir_unusable",
            f"The state directory {path} cannot be read and written by this user.",
            "Change its owner, or use another one (OPENSOUL_STATE_DIR).",
        )


def lock(state_dir: Path) -> Iterator[Finding]:
    """Whether a killed Gateway left its note."""
    from ....adapters.system.files import HOLDER_FILE

    holder = holder_of(state_dir)
    if holder is None or lives(holder):
        return

    def remove() -> None:
        now = holder_of(state_dir)
        if now is not None and not lives(now):
            (state_dir / HOLDER_FILE).unlink(missing_ok=True)

    yield Finding(
        "stale_lock",
        f"A Gateway ended without releasing {state_dir}: {holder}.",
        "It blocks no start; the next one replaces the note.",
        remove,
    )


def permissions(state_dir: Path, config_files: Iterable[str]) -> Iterator[Finding]:
    """Files with secrets or conversations that other users can read or change."""
    if os.name != "posix":
        return  # On other systems, the mode does not control access.
    if state_dir.is_dir():
        yield from _exposed(state_dir, 0o700)
    read = [Path(name) for name in config_files]
    for path in read:
        # A file without secrets may be world-readable, as in a repository.
        yield from _exposed(path, 0o600 if _holds_secret(path) else 0o644)
    others = set(_private_files(state_dir)).difference(read)
    for path in sorted(others):
        yield from _exposed(path, 0o600)


def _holds_secret(path: Path) -> bool:
    """Whether a configuration file contains a secret itself, even as a default."""
    try:
        return _SECRET.search(path.read_text("utf-8", "replace")) is not None
    except OSError:
        return True


def _private_files(state_dir: Path) -> Iterator[Path]:
    for folder in (state_dir, *(state_dir / name for name in _SECRET_DIRECTORIES)):
        if folder.is_dir():
            yield from (path for path in folder.iterdir() if path.is_file())


def _exposed(path: Path, wanted: int) -> Iterator[Finding]:
    try:
        # The target of a link may belong to another program.
        found = path.lstat()
    except OSError:
        return
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode) or not mode & _OTHER_USERS & ~wanted:
        return
    own = found.st_uid == os.geteuid()
    yield Finding(
        "permissions",
        f"{path} can be read or changed by other users (mode {mode:04o}).",
        f"chmod {wanted:o} {shlex.quote(str(path))}",
        partial(path.chmod, wanted & mode) if own else None,
    )
