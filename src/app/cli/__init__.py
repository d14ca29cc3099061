"""The command `opensoul`. Light on purpose: what a command needs is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; without `argv`, the process's own arguments."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if argv is None:
        from .secrets import hide_from_process_list

        hide_from_process_list(arguments)
    if arguments == ["--version"]:
        # Asked by scripts, often: not worth loading all commands for.
        from .version import version_line

        print(version_line())  # noqa: T201 - our own text, and no time to load click
        return 0
    from .root import run

    return run(arguments)
