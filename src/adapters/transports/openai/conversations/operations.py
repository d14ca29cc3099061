"""What the OpenAPI document says of conversations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...routes import SCHEMA_REF, json_content
from ..responses import INPUT_ITEM, ITEM_EXAMPLE, PAGE, PAGE_EXAMPLE, PAGE_PARAMETERS

_STRING = {"type": "string"}
_METADATA = {
    "type": "object",
    "additionalProperties": {**_STRING, "maxLength": 512},
    "maxProperties": 16,
}
_CONVERSATION = {
    "type": "object",
    "required": ["id", "object", "created_at", "metadata"],
    "properties": {
        "id": _STRING,
        "object": {"const": "conversation"},
        "created_at": {"type": "integer"},
        "metadata": _METADATA,
    },
}
_EXAMPLE = {
    "id": "conv_01a2223266d87569ba86d07daf828004",
    "object": "conversation",
    "created_at": 1_750_000_000,
    "metadata": {"topic": "demo"},
}
_DELETED = {
    "type": "object",
    "required": ["id", "object", "deleted"],
    "properties": {
        "id": _STRING,
        "object": {"const": "conversation.deleted"},
        "deleted": {"const": True},
    },
}
_ITEMS = {"type": "array", "maxItems": 20, "items": INPUT_ITEM}
_HELLO = {"type": "message", "role": "user", "content": "Hello!"}
_REF = {"$ref": SCHEMA_REF.format(model="Conversation")}
_ANSWER = json_content({**_REF, "$defs": {"Conversation": _CONVERSATION}}, conversation=_EXAMPLE)


def create() -> Mapping[str, Any]:
    """`POST /v1/conversations`."""
    body = {
        "type": "object",
        "properties": {"items": _nullable(_ITEMS), "metadata": _nullable(_METADATA)},
    }
    example = {"items": [_HELLO], "metadata": {"topic": "demo"}}
    return {**_body(body, begun=example), **_answer("The conversation.", _ANSWER)}


def retrieve() -> Mapping[str, Any]:
    """`GET /v1/conversations/{conversation_id}`."""
    return _answer("The conversation.", _ANSWER)


def update() -> Mapping[str, Any]:
    """`POST /v1/conversations/{conversation_id}`."""
    body = {"type": "object", "required": ["metadata"], "properties": {"metadata": _METADATA}}
    example = {"metadata": {"topic": "demo"}}
    return {**_body(body, replaced=example), **_answer("The conversation.", _ANSWER)}


def delete() -> Mapping[str, Any]:
    """`DELETE /v1/conversations/{conversation_id}`."""
    example = {"id": _EXAMPLE["id"], "object": "conversation.deleted", "deleted": True}
    return _answer("It is deleted.", json_content(_DELETED, deleted=example))


def items() -> Mapping[str, Any]:
    """`GET /v1/conversations/{conversation_id}/items`."""
    page = _answer("The items.", json_content(PAGE, page=PAGE_EXAMPLE))
    return {"parameters": PAGE_PARAMETERS, **page}


def add() -> Mapping[str, Any]:
    """`POST /v1/conversations/{conversation_id}/items`."""
    body = {
        "type": "object",
        "required": ["items"],
        "properties": {"items": {**_ITEMS, "minItems": 1}},
    }
    added = _answer("The items that were added.", json_content(PAGE, page=PAGE_EXAMPLE))
    return {**_body(body, added={"items": [_HELLO]}), **added}


def item() -> Mapping[str, Any]:
    """`GET /v1/conversations/{conversation_id}/items/{item_id}`."""
    schema = {"type": "object", "required": ["id", "type"]}
    return _answer("The item.", json_content(schema, item=ITEM_EXAMPLE))


def remove() -> Mapping[str, Any]:
    """`DELETE /v1/conversations/{conversation_id}/items/{item_id}`."""
    return _answer("The conversation.", _ANSWER)


def _nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _body(schema: Mapping[str, Any], **examples: object) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": json_content(schema, **examples)}}


def _answer(description: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"responses": {"200": {"description": description, "content": content}}}
