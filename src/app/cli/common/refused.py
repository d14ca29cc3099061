"""The error of a command, with a reason that the user can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class CommandError(Exception):
    """`message` says what is wrong and what to do; `code` is a stable slug for programs.

    `issues` are the findings in a configuration, each with file, path, line and message.
    """

    def __init__(
        self, message: str, *, code: str, issues: Sequence[Mapping[str, object]] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.issues = issues
