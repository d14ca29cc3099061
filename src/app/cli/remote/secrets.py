"""Secrets on the command line: kept out of the process list, or read from a file instead."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_SECRET_OPTIONS = ("--token", "--password", "--params")
"""Parameters may hold a secret, too."""
_MASK = "***"


def hide_from_process_list(arguments: Sequence[str]) -> None:
    """Where a secret is among the arguments, show the command line without it from now on.

    It was visible while Python started: a file or the environment is the better way.
    """
    shown = masked_arguments(arguments)
    if shown != list(arguments):
        from setproctitle import setproctitle

        title = " ".join(["opensoul", *shown])
        # It takes UTF-8 alone; a command line of other bytes is refused a moment later.
        setproctitle(title.encode(errors="backslashreplace").decode())


def masked_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments with the values of secret options masked, and what `config set` sets."""
    shown: list[str] = []
    path_at = _place_of_path(arguments)
    is_secret = False
    for argument in arguments:
        name, separator, _ = argument.partition("=")
        if is_secret or len(shown) > path_at:
            shown.append(_MASK)
        elif separator and name in _SECRET_OPTIONS:
            shown.append(f"{name}={_MASK}")
        else:
            shown.append(argument)
        is_secret = not is_secret and argument in _SECRET_OPTIONS
    return shown


def _place_of_path(arguments: Sequence[str]) -> int:
    """Where the path of `config set PATH VALUE` is, or what stands in its place; else the end."""
    with suppress(ValueError):
        set_at = arguments.index("set", arguments.index("config"))
        return set_at + 1
    return len(arguments)


def secret_from_file(path: str) -> str:
    """What the file holds, without one line break at its end.

    Raises ValueError, with a message for the user, for a file that is empty or no text, and
    OSError.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return text
