"""One line in the log for each request, written when it has really ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ....domain.bounded_logs import KIND
from .context import RequestContext

logger = logging.getLogger("opensoul.access")

_LONGEST_PATH = 256


def write(scope: Mapping[str, Any], context: RequestContext) -> None:
    """Log a request that has ended, without content, secrets and query."""
    if not logger.isEnabledFor(logging.INFO):
        return
    fields: dict[str, object] = {
        "method": scope["method"],
        "path": _path(scope),
        "status": context.status,
        "outcome": _outcome(context),
        "ms": _ms(context.elapsed),
        "bytes": context.bytes_out,
        "bytes_in": context.bytes_in,
        "client": context.client.address,
        "request": context.request_id,
        **context.log_fields,
    }
    for name, seconds in context.timings.items():
        fields[f"{name.replace('-', '_')}_ms"] = _ms(seconds)
    if context.status is None:
        del fields["status"]  # Nothing was answered.
    if context.authenticated is None:
        fields[KIND] = f"requests of strangers: {context.status or 'cut'}"
    # As logger.info does, which would check for each of many extras that it hides no other field.
    record = logger.makeRecord(logger.name, logging.INFO, "", 0, "request", (), None)
    record.__dict__.update(fields)
    logger.handle(record)


def _path(scope: Mapping[str, Any]) -> str:
    """As it came, still percent-encoded, so that no path can write lines of its own."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"], errors="replace").encode()
    path = raw.partition(b"?")[0].decode("latin-1")
    return path if len(path) <= _LONGEST_PATH else path[:_LONGEST_PATH] + "..."


def _outcome(context: RequestContext) -> str:
    if context.stalled:
        return "client_stalled"
    if context.left:
        return "client_left"
    if context.outcome is not None:
        return context.outcome
    return "cut" if context.status is None else "answered"


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 2)
