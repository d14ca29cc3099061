"""Configures logging to the console and, optionally, a file.

All code uses the standard library: `logging.getLogger(name)` and `extra={...}`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ....domain.runs import CONTENT
from ....domain.settings import LoggingSettings
from .file import LogFile, OwnHandler
from .lines import LEVELS, formatter

_ROOT_LOGGER = "opensoul"
# The handlers of these loggers are removed: they would write in another format.
_PROPAGATING = ("asyncio", "hypercorn.error", "quart", "quart.app", "quart.serving")
# hypercorn's access log duplicates ours; watchfiles logs every change, also of the log file. httpx2
# logs URLs and mcp what servers send, both of which may contain secrets.
_QUIET = {
    "httpx2": logging.WARNING,
    "hypercorn.access": LEVELS["silent"],
    "mcp": LEVELS["silent"],
    "watchfiles": logging.WARNING,
}


def configure(
    settings: LoggingSettings,
    *,
    verbose: bool = False,
    ring: logging.Handler | None = None,
    bounds: logging.Filter | None = None,
) -> None:
    """Apply the settings. `verbose`: the console logs at least `debug`; `ring` gets every record;
    `bounds` filters the records of all handlers.

    May be called repeatedly. Raises OSError if the log file cannot be opened, and then changes
    nothing. Libraries log at `info` or above, unless the level is `trace`.
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
    logging.getLogger(_ROOT_LOGGER).setLevel(lowest)
    # The content of conversations has a logger of its own, disabled by default.
    logging.getLogger(CONTENT).disabled = not settings.content
    chatty = lowest < logging.DEBUG
    logging.getLogger().setLevel(lowest if chatty else max(lowest, logging.INFO))


def _install(handlers: Iterable[logging.Handler]) -> None:
    root = logging.getLogger()
    handlers = list(handlers)
    for old in [handler for handler in root.handlers if isinstance(handler, OwnHandler)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)  # Does nothing if it is already there.
    for name in _PROPAGATING:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name, level in _QUIET.items():
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
    handler = LogFile(
        Path(path).expanduser(), max_bytes=settings.max_file_bytes, keep=settings.keep_files
    )
    handler.setLevel(level)
    handler.setFormatter(formatter("json", colours=False))
    return handler


class _NoConsoleHandler(OwnHandler, logging.NullHandler):
    """Used if standard error is closed."""


class _ConsoleHandler(OwnHandler, logging.StreamHandler[Any]):
    """Writes to the standard error of the time when logging was configured."""
