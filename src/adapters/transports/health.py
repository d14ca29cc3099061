"""`GET /healthz` and `GET /readyz`: is the process alive, and is every part of it fit to serve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import orjson
from quart import Response

from .routes import Limits, Route, Transport, json_content

Check = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns the parts that fail: a sentence for each, by its name. Empty when all is well."""

Degraded = Callable[[], Mapping[str, str]]
"""The same for parts that work less well than they should, while requests are served."""

_LIMITS = Limits(body_bytes=0)


def transport(check: Check, degraded: Degraded = dict) -> Transport:
    """The health routes. They need no authentication, so neither `check` nor
    `degraded` may name a secret."""

    async def health() -> Response:
        return _json(200, {"status": "ok"})

    async def ready() -> Response:
        failing = dict(await check())
        if failing:
            return _json(503, {"status": "not ready", "failing": failing})
        noticed = dict(degraded())
        return _json(200, {"status": "ready"} | ({"degraded": noticed} if noticed else {}))

    alive, fit = "Whether the process is alive.", "Whether every part is fit to serve."
    return Transport(
        "health",
        (
            Route("/healthz", "GET", None, health, alive, _LIMITS, operation=_alive),
            Route("/readyz", "GET", None, ready, fit, _LIMITS, operation=_fit),
        ),
    )


def _json(status: int, body: Mapping[str, object]) -> Response:
    return Response(orjson.dumps(body), status, content_type="application/json")


def _alive() -> Mapping[str, object]:
    return {"responses": {"200": _answer("The process is alive.", "ok")}}


def _fit() -> Mapping[str, object]:
    return {
        "responses": {
            "200": _answer("Every part is fit to serve.", "ready", "degraded"),
            "503": _answer("A part fails.", "not ready", "failing"),
        }
    }


def _answer(description: str, status: str, *parts: str) -> Mapping[str, object]:
    by_name = {"type": "object", "additionalProperties": {"type": "string"}}
    schema = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": status}, **dict.fromkeys(parts, by_name)},
    }
    return {"description": description, "content": json_content(schema, example={"status": status})}
