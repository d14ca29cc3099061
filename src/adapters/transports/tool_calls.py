"""`POST /tools/invoke`: one call of a tool, without a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Response, request

from ...domain.access import Scope
from ...domain.errors import InvalidRequest, UnknownTool
from ...domain.services import CallOutcome, CallResult, DirectCall, ToolService
from .http.bodies import read_object
from .http.context import current
from .http.json_text import dumps
from .routes import Limits, Route, Transport, json_content

_LIMITS = Limits(body_bytes=2 * 1024 * 1024)
_ANSWERS: Mapping[CallOutcome, tuple[int, str]] = {
    CallOutcome.DONE: (200, "answered"),
    CallOutcome.CHECKED: (200, "answered"),
    CallOutcome.FAILED: (400, "failed"),
    CallOutcome.APPROVAL_REQUIRED: (403, "refused"),
}
"""The status of the answer, and the outcome in the access log."""


def transport(tools: ToolService) -> Transport:
    """The route."""
    return Transport(
        "tools",
        (
            Route(
                "/tools/invoke",
                "POST",
                Scope.WRITE,
                _Endpoint(tools).invoke,
                summary="Call a tool, without a run.",
                limits=_LIMITS,
                operation=_operation,
            ),
        ),
    )


def result_object(text: str) -> dict[str, object]:
    """The result of a tool as clients get it."""
    return {"content": [{"type": "text", "text": text}]}


class _Endpoint:
    def __init__(self, tools: ToolService) -> None:
        self._tools = tools

    async def invoke(self) -> Response:
        context = current()
        call = await read_object(request.body, context, _call)
        context.log_fields["tool"] = call.tool[:64]
        try:
            result = await self._tools.call(context.principal, call)
        except UnknownTool as error:
            context.log_fields["code"], context.outcome = error.code, "refused"
            return _json(_error("not_found", error.message), 404)
        status, context.outcome = _ANSWERS[result.outcome]
        return _json(_body(result), status)


def _call(body: Mapping[str, Any]) -> DirectCall:
    """Raises InvalidRequest."""
    tool = body.get("tool")
    if not isinstance(tool, str) or not tool.strip():
        raise InvalidRequest("tools.invoke requires body.tool", param="tool")
    arguments = body.get("args")
    if arguments is not None and not isinstance(arguments, dict):
        raise InvalidRequest("`args` must be a JSON object.", param="args")
    dry_run = body.get("dryRun")
    if dry_run is not None and not isinstance(dry_run, bool):
        raise InvalidRequest("`dryRun` must be true or false.", param="dryRun")
    return DirectCall(
        tool=tool.strip(),
        arguments=arguments or {},
        action=_text(body, "action"),
        session_key=_text(body, "sessionKey"),
        dry_run=bool(dry_run),
        source="http",
    )


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a string.", param=name)
    return value.strip() or None if value else None


def _body(result: CallResult) -> Mapping[str, object]:
    match result.outcome:
        case CallOutcome.DONE:
            return {"ok": True, "result": result_object(result.text)}
        case CallOutcome.CHECKED:
            return {"ok": True, "result": None, "dryRun": True}
        case CallOutcome.APPROVAL_REQUIRED:
            return {**_error("approval_required", result.text), "requiresApproval": True}
        case CallOutcome.FAILED:
            return _error("tool_error", result.text)


def _error(kind: str, message: str) -> dict[str, object]:
    return {"ok": False, "error": {"type": kind, "message": message}}


def _json(body: Mapping[str, object], status: int) -> Response:
    return Response(dumps(body), status, content_type="application/json")


_STRING = {"type": "string"}
_REQUESTS = {
    "call": {"tool": "read", "args": {"path": "README.md"}},
    "dry_run": {"tool": "exec", "args": {"command": "ls"}, "dryRun": True},
}
_DONE = {"ok": True, "result": result_object("# Notes")}
_FAILED = _error("tool_error", "There is no file README.md.")


def _operation() -> Mapping[str, Any]:
    body = {
        "type": "object",
        "required": ["tool"],
        "properties": {
            "tool": {**_STRING, "pattern": r"\S"},
            "action": _STRING,
            "args": {"type": "object"},
            "sessionKey": _STRING,
            "dryRun": {"type": "boolean"},
        },
    }
    part = {"type": "object", "properties": {"type": {"const": "text"}, "text": _STRING}}
    result = {"type": "object", "properties": {"content": {"type": "array", "items": part}}}
    done = {
        "type": "object",
        "required": ["ok", "result"],
        "properties": {
            "ok": {"const": True},
            "result": {"anyOf": [result, {"type": "null"}]},
            "dryRun": {"const": True},
        },
    }
    error = {"type": "object", "properties": {"type": _STRING, "message": _STRING}}
    failed = {
        "type": "object",
        "required": ["ok", "error"],
        "properties": {
            "ok": {"const": False},
            "error": error,
            "requiresApproval": {"const": True},
        },
    }
    return {
        "requestBody": {"required": True, "content": json_content(body, **_REQUESTS)},
        "responses": {
            "200": {
                "description": "The tool's result.",
                "content": json_content(done, example=_DONE),
            },
            "400": {
                "description": "The tool failed, or refused its arguments. An invalid body has an "
                "error of the usual form.",
                "content": json_content(failed, example=_FAILED),
            },
            "403": {
                "description": "The call needs an approval. A missing scope has an error of the "
                "usual form.",
                "content": json_content(failed, example=_FAILED),
            },
            "404": {
                "description": "There is no such tool, or it may not be called.",
                "content": json_content(failed, example=_FAILED),
            },
        },
    }
