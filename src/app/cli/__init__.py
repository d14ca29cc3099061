"""The command `opensoul`. Light on purpose: what a command needs is imported when it runs."""

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
        # While modules are loaded, or between a command's end and the process's.
        return 130


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        # Asked by scripts, often: not worth loading all commands for.
        from ..version import version_line

        print(version_line())  # noqa: T201 - our own text, and no time to load click
        return 0
    from .root import run

    return run(arguments)
