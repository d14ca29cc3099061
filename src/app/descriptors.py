"""File descriptors: every connection takes one, and so does every file and every call of a model.

The system gives the lowest number that is free, so a connection with a number near the limit shows
that hardly any is left. Such connections are refused, and the rest serves those that are there.
"""

from __future__ import annotations

import logging
import os
from errno import EMFILE, ENFILE

from ..domain.bounded_logs import KIND

logger = logging.getLogger(__name__)

_MOST_RESERVED = 64


def is_of_the_last(descriptor: int) -> bool:
    """Whether a new connection with this number should be refused. The log says so."""
    limit = _limit()
    if limit is None or descriptor < limit - min(_MOST_RESERVED, limit // 8):
        return False
    logger.error(
        "connections are refused: hardly any file descriptor is left",
        extra={"limit": limit, KIND: "connections refused for want of descriptors"},
    )
    return True


async def watch() -> None:
    """Log when none is left: then the system closes connections before they are seen here."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno not in (EMFILE, ENFILE):
            raise
        logger.error(  # noqa: TRY400 (where it was found does not matter)
            "no file descriptor is left: connections are closed unanswered",
            extra={"limit": _limit(), "reason": error.strerror, KIND: "no descriptor left"},
        )


def _limit() -> int | None:
    """How many this process may have now; None where the system has no such limit."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
