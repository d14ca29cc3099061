"""Hides secrets of the command line from the process list."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

_SECRET_OPTIONS = ("--token", "--password", "--params")
"""Parameters may contain a secret, too."""
_MASK = "***"


def hide_from_process_list(arguments: Sequence[str]) -> None:
    """Mask secrets in the title of the process.

    They were visible while Python started; a file or the environment is safer.
    """
    shown = masked_arguments(arguments)
    if shown != list(arguments):
        from setproctitle import setproctitle

        title = " ".join(["opensoul", *shown])
        # It accepts only UTF-8; other command lines are rejected later.
        setproctitle(title.encode(errors="backslashreplace").decode())


def masked_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments with values of secret options and of `config set` masked."""
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
    """The position of the path in `config set PATH VALUE`; else the end."""
    with suppress(ValueError):
        set_at = arguments.index("set", arguments.index("config"))
        return set_at + 1
    return len(arguments)
