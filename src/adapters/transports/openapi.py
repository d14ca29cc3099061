"""The HTTP routes as an OpenAPI 3.1 document, and `GET /openapi.json`, which serves it.

https://spec.openapis.org/oas/v3.1.1
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from quart import Response

from ...domain.access import Scope
from .http import Problem
from .http.allowances import ALLOWANCE_HEADERS
from .http.context import current
from .http.errors import codes_by_status
from .http.json_text import dumps
from .routes import SCHEMA_REF, Limits, Route, Transport, json_content

TITLE = "OpenSoul Gateway"
PATH = "/openapi.json"
_DESCRIPTION = """\
Agents behind OpenAI's chat completions API. The `model` of a request names an agent.

Every answer has the header `x-request-id`. Those to an API key with limits have the headers
`x-ratelimit-*` of the response 429. A request with another method than those of its path is
answered with 405 and the header `Allow`; a path where nothing is, with 404."""
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_STRING = {"type": "string"}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _STRING,
                "type": _STRING,
                "param": {
                    "type": ["string", "null"],
                    "description": "The field or header at fault.",
                },
                "code": {**_STRING, "description": "A stable name of the error, for programs."},
            },
        }
    },
}
_ERROR_REF = {"$ref": SCHEMA_REF.format(model="Error")}
_RETRY_AFTER = "Seconds after which a retry may succeed, where that is known."
_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "`Bearer`."},
    405: {"Allow": "The methods of the path."},
    429: {"Retry-After": _RETRY_AFTER, **ALLOWANCE_HEADERS},
    503: {"Retry-After": _RETRY_AFTER},
}
_MEANINGS: Mapping[int, str] = {
    400: "The request is not valid; `param` names what is wrong.",
    401: "The credential is missing or wrong.",
    403: "The credential lacks the scope, or the client may not be here.",
    404: "There is no such thing, or the endpoint is switched off.",
    405: "The path has other methods.",
    408: "The body was not complete in time.",
    409: "The request conflicts with the state that it met.",
    410: "What the request refers to is no longer kept.",
    413: "The body is too large.",
    415: "The content type or the content encoding is not supported.",
    429: "Too many requests, of this client or for a session, a model or an address.",
    500: "The Gateway failed.",
    501: "The Gateway does not have this function.",
    502: "The model's provider failed.",
    503: "The Gateway is busy, is stopping, or cannot reach its store.",
    504: "The run or the model's provider took too long.",
}


def transport(routes: Callable[[], Iterable[Route]]) -> Transport:
    """The route that serves the document of `routes`, which are read with the first request.

    A client needs the scope to read: a stranger shall not find out which plugins add routes.
    """
    view, limits = _Served(routes).view, Limits(body_bytes=0)
    this = "This document."
    route = Route(PATH, "GET", Scope.READ, view, this, limits, operation=_operation)
    return Transport("openapi", (route,))


@dataclass
class _Served:
    """The document as bytes, written when a client first asks for it: the routes do not change."""

    routes: Callable[[], Iterable[Route]]

    @cached_property
    def _body(self) -> bytes:
        return dumps(document(self.routes()))

    @cached_property
    def _etag(self) -> str:
        return f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'

    async def view(self) -> Response:
        known = current().headers.get(b"if-none-match", b"").decode("latin-1")
        headers = {"ETag": self._etag, "Cache-Control": "private, no-cache"}
        if self._etag in known:
            response = Response("", 304, headers)
            del response.headers["content-type"], response.headers["content-length"]
            return response
        return Response(self._body, headers=headers, content_type="application/json")


def _operation() -> Mapping[str, Any]:
    content = json_content({"type": "object", "required": ["openapi", "info", "paths"]})
    unchanged = {"description": "The document is the one that `If-None-Match` names."}
    return {
        "parameters": [{"name": "if-none-match", "in": "header", "schema": _STRING}],
        "responses": {
            "200": {"description": "An OpenAPI 3.1 document.", "content": content},
            "304": unchanged,
        },
    }


def document(routes: Iterable[Route], *, title: str = TITLE) -> dict[str, Any]:
    """The document. Its version is that of the API, the `v1` in the paths."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Error": _ERROR}
    for route in routes:
        paths.setdefault(_path_of(route), {})[route.method.lower()] = _hoisted(
            _operation_of(route), schemas
        )
    return {
        "openapi": "3.1.1",
        "info": {"title": title, "version": "1", "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": {_name(s): _failure(s, codes) for s, codes in codes_by_status().items()},
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _path_of(route: Route) -> str:
    """With the names of variables alone, without what the framework converts them with."""
    path = route.path
    for name, spelled in route.variables:
        path = path.replace(spelled, f"{{{name}}}")
    return path


def statuses(route: Route) -> set[int]:
    """The statuses that a request to a route may be refused with."""
    found = {400, 403, 500, *route.errors}  # 403: without authentication, of foreign pages.
    if route.scope is not None:
        found |= {401, 429, 503}
    if route.switch is not None or route.variables:
        found.add(404)
    if "requestBody" in route.operation():
        found |= {408, 413, 415, 503}
    return found


def _operation_of(route: Route) -> dict[str, Any]:
    scopes = [] if route.scope is None else [route.scope.value]
    security = [] if route.scope is None else [{name: scopes} for name in _SECURITY_SCHEMES]
    stated = route.operation()
    parameters = [
        *(
            {"name": n, "in": "path", "required": True, "schema": _STRING}
            for n, _ in route.variables
        ),
        *stated.get("parameters", ()),
    ]
    return {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{_path_of(route)}").strip("_"),
        "summary": route.summary,
        "security": security,
        **stated,
        **({"parameters": parameters} if parameters else {}),
        "responses": _with_failures(stated.get("responses", {}), statuses(route)),
    }


def _with_failures(stated: Mapping[str, Any], failures: Iterable[int]) -> dict[str, Any]:
    """All responses of an operation. One that has a failure's status may have its form, too."""
    responses = dict(stated)
    for status in sorted(failures):
        own = responses.get(str(status))
        if own is None:
            responses[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
        elif media := own.get("content", {}).get("application/json"):
            either = {**media, "schema": {"anyOf": [media["schema"], _ERROR_REF]}}
            headers = {**_headers(status), **own.get("headers", {})}
            responses[str(status)] = {
                **own,
                **({"headers": headers} if headers else {}),
                "content": {"application/json": either},
            }
    return responses


def _name(status: int) -> str:
    return f"Error{status}"


def _failure(status: int, codes: Iterable[str]) -> dict[str, Any]:
    names, meaning = sorted(codes), _MEANINGS.get(status, "The request failed.")
    listed = ", ".join(f"`{name}`" for name in names)
    example = Problem(status, meaning, names[0]).envelope
    headers = _headers(status)
    return {
        "description": f"{meaning} `code`: {listed}.",
        **({"headers": headers} if headers else {}),
        "content": json_content(_ERROR_REF, error=example),
    }


def _headers(status: int) -> dict[str, Any]:
    texts = _HEADERS.get(status, {})
    return {name: {"description": text, "schema": _STRING} for name, text in texts.items()}


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
