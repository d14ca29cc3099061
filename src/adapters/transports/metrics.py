"""`GET /metrics`: what the process measures, in the text format of Prometheus.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from quart import Response

from ...domain.access import Scope
from ...domain.errors import Forbidden, StoreFailed
from ...domain.ports import Meter, Metric
from .http.context import current
from .routes import Limits, Route, Transport

logger = logging.getLogger(__name__)

_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "opensoul_"
_UP = "Whether every part could be measured: 0 while the store cannot be read."
_EXAMPLE = (
    "# HELP opensoul_runs_waiting Runs of all nodes that wait for a free slot.\n"
    "# TYPE opensoul_runs_waiting gauge\n"
    "opensoul_runs_waiting 3\n"
)


def transport(meters: Sequence[Meter]) -> Transport:
    async def view() -> Response:
        if current().principal.agents is not None:
            raise Forbidden("/metrics is not for a credential that is restricted to agents.")
        return Response(exposition(await _measured(meters)), content_type=_TYPE)

    summary = "What this node measures, and the runs of all nodes, for Prometheus."
    route = Route(
        "/metrics", "GET", Scope.READ, view, summary, Limits(body_bytes=0), operation=_operation
    )
    return Transport("metrics", (route,))


def exposition(metrics: Iterable[Metric]) -> str:
    """The metrics as lines."""
    lines = []
    for metric in metrics:
        name = f"{_PREFIX}{metric.name}"
        text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {metric.kind}"]
        lines.append(f"{name} {metric.value:.12g}")
    return "\n".join([*lines, ""])


async def _measured(meters: Sequence[Meter]) -> list[Metric]:
    """What can be measured: where the store is away, the rest says so."""
    found: list[Metric] = []
    up = 1
    for meter in meters:
        try:
            found += await meter.metrics()
        except StoreFailed as error:
            up = 0
            logger.debug("a part was not measured", extra={"reason": error.message})
    return [Metric("store_up", _UP, up), *found]


def _operation() -> Mapping[str, object]:
    media = {"schema": {"type": "string"}, "examples": {"waiting": {"value": _EXAMPLE}}}
    answer = {"description": "Lines of metrics.", "content": {"text/plain": media}}
    return {"responses": {"200": answer}}
