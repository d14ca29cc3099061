"""The requests and responses in docs/openapi.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..answering import APPROVAL_HEADER, BINDING_HEADERS, RESUME_HEADERS
from ..routes import SCHEMA_REF, json_content

_STRING = {"type": "string"}
_ID = {"type": ["string", "integer", "null"]}
_METHODS = (
    *("SendMessage", "SendStreamingMessage", "GetTask", "ListTasks", "CancelTask"),
    *("SubscribeToTask", "GetExtendedAgentCard", "CreateTaskPushNotificationConfig"),
    *("GetTaskPushNotificationConfig", "ListTaskPushNotificationConfigs"),
    *("DeleteTaskPushNotificationConfig", "message/send", "message/stream", "tasks/get"),
    *("tasks/cancel", "tasks/resubscribe", "agent/getAuthenticatedExtendedCard"),
    *("tasks/pushNotificationConfig/set", "tasks/pushNotificationConfig/get"),
    *("tasks/pushNotificationConfig/list", "tasks/pushNotificationConfig/delete"),
)
_REQUEST = {
    "type": "object",
    "required": ["jsonrpc", "method"],
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": _ID,
        "method": {"enum": list(_METHODS)},
        "params": {"type": "object"},
    },
}
_ERROR = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "integer"},
        "message": _STRING,
        "data": {"type": "array", "items": {"type": "object"}},
    },
}
_RESPONSE = {
    "type": "object",
    "required": ["jsonrpc", "id"],
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": _ID,
        "result": {"type": "object"},
        "error": _ERROR,
    },
}
_REFUSALS = {
    403: "The credential lacks the scope, or the client may not be here.",
    429: "Too many requests, of this client or for a session.",
    500: "The Gateway failed.",
    503: "The Gateway is busy, is stopping, or cannot reach its store.",
}
"""Statuses of answers that may be errors of JSON-RPC."""
_PART = {"text": "Hello"}
_IDS = {"taskId": "01a22232-66d8-7569-ba86-d07daf828004", "contextId": "c1"}
_MESSAGE = {"messageId": "m1", "role": "ROLE_USER", "parts": [_PART]}
_SEND = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": _MESSAGE}}
_STATUS = {"state": "TASK_STATE_COMPLETED", "timestamp": "2026-01-01T00:00:00Z"}
_TASK = {
    "id": _IDS["taskId"],
    "contextId": _IDS["contextId"],
    "status": _STATUS,
    "artifacts": [{"artifactId": "answer", "name": "answer", "parts": [{"text": "Hi!"}]}],
}
_LEGACY = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "message/send",
    "params": {
        "message": {
            "kind": "message",
            "messageId": "m1",
            "role": "user",
            "parts": [{"kind": "text", "text": "Hello"}],
        }
    },
}
_UPDATE = (
    b'data: {"jsonrpc":"2.0","id":1,"result":{"statusUpdate":{"taskId":'
    b'"01a22232-66d8-7569-ba86-d07daf828004","contextId":"c1","status":'
    b'{"state":"TASK_STATE_COMPLETED"}}}}\n\n'
).decode()
_CARD = {
    "type": "object",
    "required": ["name", "description", "version", "url", "capabilities", "skills"],
    "properties": {
        "name": _STRING,
        "description": _STRING,
        "version": _STRING,
        "url": _STRING,
        "capabilities": {"type": "object"},
        "skills": {"type": "array", "items": {"type": "object"}},
        "supportedInterfaces": {"type": "array", "items": {"type": "object"}},
    },
}
_VERSION = {
    "name": "a2a-version",
    "in": "header",
    "description": "The version of the protocol; the name of the method tells it, too.",
    "schema": _STRING,
}


def card() -> Mapping[str, Any]:
    """`GET /.well-known/agent-card.json`."""
    ref = {"$ref": SCHEMA_REF.format(model="AgentCard"), "$defs": {"AgentCard": _CARD}}
    return {"responses": {"200": {"description": "The card.", "content": json_content(ref)}}}


def call() -> Mapping[str, Any]:
    """`POST /a2a`."""
    response = {
        "$ref": SCHEMA_REF.format(model="A2aResponse"),
        "$defs": {"A2aResponse": _RESPONSE},
    }
    request = {"$ref": SCHEMA_REF.format(model="A2aRequest"), "$defs": {"A2aRequest": _REQUEST}}
    done = {"jsonrpc": "2.0", "id": 1, "result": {"task": _TASK}}
    content = {
        **json_content(response, task=done),
        "text/event-stream": {"schema": _STRING, "examples": {"end": {"value": _UPDATE}}},
    }
    return {
        "parameters": [*BINDING_HEADERS, *RESUME_HEADERS, APPROVAL_HEADER, _VERSION],
        "requestBody": {
            "required": True,
            "content": json_content(request, current=_SEND, version_0_3=_LEGACY),
        },
        "responses": {
            "200": {
                "description": "The result or the error of the call, or the events of a stream.",
                "content": content,
            },
            **{
                str(status): {"description": why, "content": json_content(response)}
                for status, why in _REFUSALS.items()
            },
        },
    }
