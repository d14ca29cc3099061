"""Where the log goes: to the console and, where asked for, to a file.

All code logs through the standard library: `logging.getLogger(name)` and `extra={...}`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ....domain.runs import CONTENT
from ....domain.settings import LoggingSettings
from ....domain.text import escape_line
from .file import LogFile
from .lines import LEVELS, formatter
from .values import masked

_OURS = "opensoul"
# Their own handlers would write past ours, in another form.
_JOINING = ("asyncio", "hypercorn.error", "quart", "quart.app", "quart.serving")
# hypercorn's access log repeats ours; watchfiles tells of every change, that of a log file too.
_HUSHED = {"hypercorn.access": LEVELS["silent"], "watchfiles": logging.WARNING}


def configure(
    settings: LoggingSettings,
    *,
    verbose: bool = False,
    ring: logging.Handler | None = None,
    bounds: logging.Filter | None = None,
) -> None:
    """Log from now on as `settings` say; `verbose`: the console at least at `debug`; `ring` gets
    whatever is logged anywhere; `bounds` decides which lines are left out.

    May be called again at any time. Raises OSError when the log file cannot be opened, and then
    everything stays as it was. Libraries tell no more than `info`, unless the level is `trace`.
    """
    level = LEVELS[settings.level]
    console_level = LEVELS[settings.console_level or settings.level]
    if verbose:
        console_level = min(console_level, logging.DEBUG)
    handlers: list[logging.Handler] = [_console(settings.style, console_level)]
    if settings.file is not None:
        handlers.append(_file(settings.file, level, settings))
    lowest = min(handler.level for handler in handlers)
    if ring is not None:
        ring.setLevel(lowest)
        handlers.append(ring)
    for handler in handlers:
        handler.filters = [] if bounds is None else [bounds]
    logging.addLevelName(LEVELS["trace"], "TRACE")
    _install(handlers)
    logging.getLogger(_OURS).setLevel(lowest)
    # What people and agents say goes through a logger of its own, shut unless asked for.
    logging.getLogger(CONTENT).disabled = not settings.content
    chatty = lowest < logging.DEBUG
    logging.getLogger().setLevel(lowest if chatty else max(lowest, logging.INFO))


def _install(handlers: Iterable[logging.Handler]) -> None:
    root = logging.getLogger()
    handlers = list(handlers)
    for old in [handler for handler in root.handlers if isinstance(handler, _Lasting)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)  # Once, however often it is added.
    for name in _JOINING:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name, level in _HUSHED.items():
        logging.getLogger(name).setLevel(level)


def _console(style: str, level: int) -> logging.Handler:
    if sys.stderr is None:  # It was closed before the start.
        return _NoConsoleHandler(level)
    handler = _ConsoleHandler(sys.stderr)
    handler.setLevel(level)
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    handler.setFormatter(formatter(style, colours=coloured))
    return handler


def _file(path: str, level: int, settings: LoggingSettings) -> logging.Handler:
    handler = _LogFile(
        Path(path).expanduser(), max_bytes=settings.max_file_bytes, keep=settings.keep_files
    )
    handler.setLevel(level)
    handler.setFormatter(formatter("json", colours=False))
    return handler


class _Lasting(logging.Handler):
    """Marks the handlers of `configure`; what goes wrong in one is told in one line, no more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        reason = masked(f"{type(sys.exception()).__name__}: {sys.exception()}")
        if sys.stderr is None:
            return
        with suppress(OSError, ValueError):
            lost = f"opensoul: a line of the log is lost ({record.name}): {reason}"
            sys.stderr.write(f"{escape_line(lost)}\n")


class _NoConsoleHandler(_Lasting, logging.NullHandler):
    """Stands in for a console that is not there."""


class _ConsoleHandler(_Lasting, logging.StreamHandler[Any]):
    """Writes to standard error, as it was when the log was configured."""


class _LogFile(_Lasting, LogFile):
    """The log file among the handlers of `configure`."""
