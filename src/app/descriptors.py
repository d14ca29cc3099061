"""Reserves file descriptors for open connections: each file and each model call needs one too.

The system assigns the lowest free number, so a new connection with a number near the limit means
that few are free. Such connections are refused.
"""

from __future__ import annotations

import logging
import os
from errno import EMFILE, ENFILE

from ..domain.bounded_logs import KIND

logger = logging.getLogger(__name__)

_MOST_RESERVED = 64


def is_of_the_last(descriptor: int) -> bool:
    """Whether to refuse a new connection with this number; logs a refusal."""
    limit = _limit()
    if limit is None or descriptor < limit - min(_MOST_RESERVED, limit // 8):
        return False
    logger.error(
        "connections are refused: hardly any file descriptor is left",
        extra={"limit": limit, KIND: "connections refused for want of descriptors"},
    )
    return True


async def watch() -> None:
    """Log if none is free: the system then closes connections before they are accepted."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno not in (EMFILE, ENFILE):
            raise
        logger.error(  # noqa: TRY400 (the traceback does not help)
            "no file descriptor is left: connections are closed unanswered",
            extra={"limit": _limit(), "reason": error.strerror, KIND: "no descriptor left"},
        )


def _limit() -> int | None:
    """The present limit of this process; None if there is no limit."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
