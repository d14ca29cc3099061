"""`GET /healthz` and `GET /readyz`: is the process alive, and is every part of it fit to serve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import orjson
from quart import Blueprint, Response

from .routes import HEALTH, READY

Check = Callable[[], Awaitable[Mapping[str, str]]]
"""Tells which parts fail: a sentence for each, by its name. Empty when all is well."""

Degraded = Callable[[], Mapping[str, str]]
"""The same for parts that work less well than they should, while requests are served."""


def transport(check: Check, degraded: Degraded = dict) -> Blueprint:
    """The health routes. They need no authentication, so neither `check` nor
    `degraded` may name a secret."""
    blueprint = Blueprint("health", __name__)

    async def health() -> Response:
        return _json(200, {"status": "ok"})

    async def ready() -> Response:
        failing = dict(await check())
        if failing:
            return _json(503, {"status": "not ready", "failing": failing})
        noticed = dict(degraded())
        return _json(200, {"status": "ready"} | ({"degraded": noticed} if noticed else {}))

    HEALTH.serve(blueprint, "health", health)
    READY.serve(blueprint, "ready", ready)
    return blueprint


def _json(status: int, body: Mapping[str, object]) -> Response:
    return Response(orjson.dumps(body), status, content_type="application/json")
