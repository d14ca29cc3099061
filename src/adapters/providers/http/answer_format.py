"""Answers as JSON from models that have no parameter for it, or for one form of it only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from ....domain.messages import Message, Role, Text
from ....domain.models import FormatSupport


def negotiated(wanted: Any, support: FormatSupport) -> tuple[Any, str]:
    """The `response_format` that a model with that support is sent, None for none, and the
    instruction that takes the place of the rest, or an empty text."""
    match wanted:
        case {"type": "json_schema", "json_schema": Mapping() as described}:
            if support is FormatSupport.JSON_SCHEMA:
                return wanted, ""
            schema = described.get("schema")
            text = "Answer with JSON and nothing else: no explanation, no code fence."
            if isinstance(schema, Mapping):
                text += f" The JSON has to fit this JSON Schema: {orjson.dumps(schema).decode()}"
        case {"type": "json_object"}:
            if support is not FormatSupport.NONE:
                return wanted, ""
            return None, (
                "Answer with one JSON object and nothing else: no explanation, no code fence."
            )
        case _:
            return wanted, ""
    # The parameter would exclude the other values that a schema may describe.
    is_object = isinstance(schema, Mapping) and schema.get("type") == "object"
    sends_object = support is FormatSupport.JSON_OBJECT and is_object
    return {"type": "json_object"} if sends_object else None, text


def instructed(messages: tuple[Message, ...], instruction: str) -> tuple[Message, ...]:
    """The messages with the instruction at the end of the system message, which may be new."""
    if not instruction:
        return messages
    if messages and messages[0].role is Role.SYSTEM:
        text = f"{messages[0].text}\n\n{instruction}"
        return (Message(Role.SYSTEM, (Text(text),)), *messages[1:])
    return (Message(Role.SYSTEM, (Text(instruction),)), *messages)
