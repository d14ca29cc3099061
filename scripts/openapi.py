"""The HTTP routes as an OpenAPI 3.1 document: https://spec.openapis.org/oas/v3.1.1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from opensoul.adapters.transports.routes import SCHEMA_REF, Route, json_content

_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}


def document(routes: Iterable[Route], *, title: str) -> dict[str, Any]:
    """The document. Its version is that of the API, the `v1` in the paths."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Error": _ERROR}
    for route in routes:
        path = route.path
        for name, spelled in route.variables:
            path = path.replace(spelled, f"{{{name}}}")
        paths.setdefault(path, {})[route.method.lower()] = _hoisted(_operation(route), schemas)
    return {
        "openapi": "3.1.1",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    scopes = [] if route.scope is None else [route.scope.value]
    security = [] if route.scope is None else [{name: scopes} for name in _SECURITY_SCHEMES]
    stated = route.operation()
    failed = {
        "description": "A refusal or a failure.",
        "content": json_content({"$ref": SCHEMA_REF.format(model="Error")}),
    }
    parameters = [
        *(
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name, _ in route.variables
        ),
        *stated.get("parameters", ()),
    ]
    return {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "summary": route.summary,
        "security": security,
        **stated,
        **({"parameters": parameters} if parameters else {}),
        "responses": {**stated.get("responses", {}), "default": failed},
    }


def _hoisted(value: Any, schemas: dict[str, Any]) -> Any:
    """`value` without `$defs`, which are put into `schemas`. Raises ValueError where two different
    schemas have one name."""
    if isinstance(value, list):
        return [_hoisted(item, schemas) for item in value]
    if not isinstance(value, Mapping):
        return value
    for name, schema in value.get("$defs", {}).items():
        schema = _hoisted(schema, schemas)
        if schemas.setdefault(name, schema) != schema:
            raise ValueError(f"two schemas have the name {name!r}")
    return {key: _hoisted(item, schemas) for key, item in value.items() if key != "$defs"}
