"""The requests and responses in docs/openapi.json. The messages are those of the protocol:
https://modelcontextprotocol.io/specification"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..routes import SCHEMA_REF, json_content

_STRING = {"type": "string"}
_SESSION = {
    "name": "mcp-session-id",
    "in": "header",
    "description": "The session that the answer to `initialize` has named.",
    "schema": _STRING,
}
_VERSION = {
    "name": "mcp-protocol-version",
    "in": "header",
    "description": "The negotiated revision of the protocol. From 2026-07-28 on there are no "
    "sessions: each request stands alone.",
    "schema": _STRING,
}
_MESSAGE = {
    "type": "object",
    "description": "A message of JSON-RPC 2.0.",
    "required": ["jsonrpc"],
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": {"type": ["string", "integer", "null"]},
        "method": _STRING,
        "params": {"type": "object"},
        "result": {"type": "object"},
        "error": {"type": "object"},
    },
}
_REF = {"$ref": SCHEMA_REF.format(model="JsonRpcMessage")}
_CALL = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {
        "name": "ask_main",
        "arguments": {"message": "What is on today?"},
        "_meta": {"progressToken": 2},
    },
}
_STRUCTURED = {
    "text": "Two meetings.",
    "agent_id": "main",
    "run_id": "01a22232-66d8-7569-ba86-d07daf828004",
    "session_key": "agent:main:main",
    "stop_reason": "stop",
}
_RESULT = {
    "jsonrpc": "2.0",
    "id": 2,
    "result": {
        "content": [{"type": "text", "text": "Two meetings."}],
        "structuredContent": _STRUCTURED,
        "isError": False,
    },
}
_EVENTS = """\
event: message
data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}

"""
_REJECTED = json_content(_REF)
_REJECTIONS = {
    "400": {"description": "The message or its session is missing or malformed."},
    "404": {"description": "The session is unknown, has expired or is another principal's."},
    "406": {"description": "The client accepts neither JSON nor server-sent events."},
}
_NO_SESSIONS = {"405": {"description": "The revision of the protocol has no sessions."}}


def _rejections(*statuses: str) -> dict[str, Any]:
    return {status: {**_REJECTIONS[status], "content": _REJECTED} for status in statuses}


def _stream(example: str) -> dict[str, Any]:
    return {"text/event-stream": {"schema": _STRING, "example": example}}


def message() -> Mapping[str, Any]:
    """`POST /mcp`."""
    sent = {**_REF, "$defs": {"JsonRpcMessage": _MESSAGE}}
    answered = json_content(_REF, result=_RESULT) | _stream(_EVENTS)
    return {
        "parameters": [_SESSION, _VERSION],
        "requestBody": {"required": True, "content": json_content(sent, call=_CALL)},
        "responses": {
            "200": {"description": "The response to a request.", "content": answered},
            "202": {"description": "A notification or a response was taken."},
            **_rejections("400", "404", "406"),
        },
    }


def stream() -> Mapping[str, Any]:
    """`GET /mcp`."""
    return {
        "parameters": [_SESSION, _VERSION],
        "responses": {
            "200": {"description": "Notifications, as they come.", "content": _stream(_EVENTS)},
            **_rejections("400", "404", "406"),
            **_NO_SESSIONS,
            "409": {"description": "The session has a stream already.", "content": _REJECTED},
        },
    }


def end() -> Mapping[str, Any]:
    """`DELETE /mcp`."""
    return {
        "parameters": [_SESSION, _VERSION],
        "responses": {
            "200": {"description": "The session has ended."},
            **_rejections("400", "404"),
            **_NO_SESSIONS,
        },
    }
