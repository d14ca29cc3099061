"""The error of a command, and how errors are reported: on standard error, as a sentence or JSON."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from ...terminal import echo, show_usage_error
from .state import print_json

if TYPE_CHECKING:
    from ....adapters.config import Issue
    from ....domain.ports.configuration import ConfigIssue


class CommandError(Exception):
    """`message`: what is wrong and what to do; `code`: a stable slug for programs.

    `issues`: the findings in a configuration, as JSON data.
    """

    def __init__(
        self, message: str, *, code: str, issues: Iterable[Issue | ConfigIssue] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.issues = [
            {"file": issue.file, "path": issue.path, "line": issue.line, "message": issue.message}
            for issue in issues
        ]


def report(error: CommandError, *, as_json: bool) -> None:
    """Print an error that the user can act on."""
    if as_json:
        described: dict[str, object] = {"code": error.code, "message": error.message}
        if error.issues:
            described["issues"] = error.issues
        print_json({"error": described}, to_stderr=True)
    else:
        echo(f"opensoul: {error.message}", err=True)


def report_usage(error: click.UsageError, *, as_json: bool) -> None:
    """Print an error in the command line."""
    if as_json:
        report(CommandError(error.format_message(), code="usage"), as_json=True)
    else:
        show_usage_error(error)


def report_unexpected(error: Exception, *, as_json: bool, verbose: bool) -> None:
    """Print an error of the program or the system."""
    from ....adapters.system.logging import masked

    if verbose:
        echo(masked("".join(traceback.format_exception(error))), err=True)
    hint = "" if verbose else " (--verbose shows where)"
    if isinstance(error, OSError):
        message = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        report(CommandError(masked(f"{message}{hint}"), code="system"), as_json=as_json)
    else:
        message = f"unexpected error: {type(error).__name__}: {error}{hint}"
        report(CommandError(masked(message), code="unexpected"), as_json=as_json)
