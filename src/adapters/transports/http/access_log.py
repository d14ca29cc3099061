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


def write(scope: Mapping[str, Any], exchange: RequestContext) -> None:
    """Tell of an exchange that has ended: no content, no secret, no query."""
    if not logger.isEnabledFor(logging.INFO):
        return
    told: dict[str, object] = {
        "method": scope["method"],
        "path": _path(scope),
        "status": exchange.status,
        "outcome": _outcome(exchange),
        "ms": _ms(exchange.elapsed),
        "bytes": exchange.bytes_out,
        "bytes_in": exchange.bytes_in,
        "client": exchange.client.address,
        "request": exchange.request_id,
        **exchange.facts,
    }
    for name, seconds in exchange.timings.items():
        told[f"{name.replace('-', '_')}_ms"] = _ms(seconds)
    if exchange.status is None:
        del told["status"]  # Nothing was answered.
    if exchange.authenticated is None:
        told[KIND] = f"requests of strangers: {exchange.status or 'cut'}"
    # As logger.info does, which would check for each of many extras that it hides no other field.
    record = logger.makeRecord(logger.name, logging.INFO, "", 0, "request", (), None)
    record.__dict__.update(told)
    logger.handle(record)


def _path(scope: Mapping[str, Any]) -> str:
    """As it came, still percent-encoded, so that no path can write lines of its own."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"], errors="replace").encode()
    path = raw.partition(b"?")[0].decode("latin-1")
    return path if len(path) <= _LONGEST_PATH else path[:_LONGEST_PATH] + "..."


def _outcome(exchange: RequestContext) -> str:
    if exchange.stalled:
        return "client_stalled"
    if exchange.left:
        return "client_left"
    if exchange.outcome is not None:
        return exchange.outcome
    return "cut" if exchange.status is None else "answered"


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 2)
