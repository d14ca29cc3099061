"""The command `opensoul`. For a fast start, commands import what they need when they run."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; without `argv`, the process's own arguments."""
    if argv is not None:
        return _run(list(argv))
    from .common import streams
    from .remote.secrets import hide_from_process_list

    try:
        streams.open_all()
        arguments = sys.argv[1:]
        hide_from_process_list(arguments)
        return streams.exit_code(lambda: _run(arguments))
    except KeyboardInterrupt:
        # During imports, or after the end of the command.
        return 130


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        # Scripts call it often, so that it does not load the commands.
        from ..version import version_line

        print(version_line())  # noqa: T201 - our own text, and no time to load click
        return 0
    from .root import run

    return run(arguments)
