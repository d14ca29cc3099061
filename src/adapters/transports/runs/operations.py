"""The requests and responses in docs/openapi.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....domain.runs import RunStatus
from ....domain.services import MAX_RUNS_LISTED
from ..routes import SCHEMA_REF, json_content

_STRING, _INTEGER = {"type": "string"}, {"type": "integer"}
_STATUS = {"enum": [status.value for status in RunStatus]}
_RUN = {
    "type": "object",
    "required": [
        *("id", "object", "status", "agent_id", "session_key"),
        *("created_at", "started_at", "ended_at", "last_event"),
    ],
    "properties": {
        "id": _STRING,
        "object": {"const": "run"},
        "status": _STATUS,
        "agent_id": _STRING,
        "session_key": _STRING,
        "created_at": _INTEGER,
        "started_at": {"type": ["integer", "null"]},
        "ended_at": {"type": ["integer", "null"]},
        "last_event": _INTEGER,
    },
}
_REF = {"$ref": SCHEMA_REF.format(model="Run")}
_EXAMPLE = {
    "id": "01a22232-66d8-7569-ba86-d07daf828004",
    "object": "run",
    "status": "finished",
    "agent_id": "main",
    "session_key": "agent:main:main",
    "created_at": 1_750_000_000,
    "started_at": 1_750_000_000,
    "ended_at": 1_750_000_009,
    "last_event": 4,
}
_EVENT = {
    "type": "object",
    "required": ["type", "run_id", "seq"],
    "properties": {"type": _STRING, "run_id": _STRING, "seq": _INTEGER},
}
_STREAM = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {"id": _STRING, "event": _STRING, "data": _EVENT},
    "description": "One of the server-sent events. The last is that with which the run ends, and "
    "has the text of the whole answer. Comments keep the connection open.",
}
_EVENTS = """\
id: 01a22232-66d8-7569-ba86-d07daf828004:2
event: text_delta
data: {"type":"text_delta","run_id":"01a22232-66d8-7569-ba86-d07daf828004","seq":2,"delta":"Hi!"}

"""
_EVENT_ID = "The id or the number of an event: the events behind it are sent."


def list_() -> Mapping[str, Any]:
    """`GET /v1/runs`."""
    page = {
        "type": "object",
        "required": ["object", "data", "first_id", "last_id", "has_more"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": _REF},
            "first_id": {"type": ["string", "null"]},
            "last_id": {"type": ["string", "null"]},
            "has_more": {"type": "boolean"},
        },
        "$defs": {"Run": _RUN},
    }
    some_id = _EXAMPLE["id"]
    example = {"object": "list", "data": [_EXAMPLE], "first_id": some_id, "last_id": some_id}
    example["has_more"] = False
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_RUNS_LISTED, "default": 50}
    parameters = [
        _query("limit", limit),
        _query("after", _STRING, "The id of a run: the runs before it are listed."),
        _query("status", _STATUS),
        _query("agent_id", _STRING),
        _query("session_key", _STRING),
    ]
    return {"parameters": parameters, **_answer("The runs.", json_content(page, page=example))}


def get() -> Mapping[str, Any]:
    """`GET /v1/runs/{run_id}`."""
    return _answer("The run.", json_content({**_REF, "$defs": {"Run": _RUN}}, run=_EXAMPLE))


def events() -> Mapping[str, Any]:
    """`GET /v1/runs/{run_id}/events`."""
    header = {"name": "Last-Event-ID", "in": "header", "description": _EVENT_ID, "schema": _STRING}
    example = {"text": {"value": _EVENTS}}
    stream = {"text/event-stream": {"schema": _STREAM, "examples": example}}
    return {
        "parameters": [_query("after", _STRING, _EVENT_ID), header],
        **_answer("The events up to the terminal one.", stream),
    }


def cancel() -> Mapping[str, Any]:
    """`POST /v1/runs/{run_id}/cancel`."""
    body = {
        "type": "object",
        "required": ["id", "status"],
        "properties": {"id": _STRING, "status": _STATUS},
    }
    return _answer(
        "How the run stands.",
        json_content(body, stopped={"id": _EXAMPLE["id"], "status": "aborted"}),
    )


def _query(name: str, schema: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    described = {"description": description} if description else {}
    return {"name": name, "in": "query", **described, "schema": schema}


def _answer(description: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"responses": {"200": {"description": description, "content": content}}}
