"""A model that answers as the request demands: by a call, by JSON of a schema, by a text, or by
embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from tests.fakes.behaviours import Behaviour, Exchange, answer

_DIMENSIONS = 1_024
GREETING = ("Hello from ", "the Gateway!")
_VALUES: Mapping[str, Any] = {
    "string": "Lisbon",
    "integer": 21,
    "number": 21.5,
    "boolean": True,
    "null": None,
}


def value_of(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """A value that fits a schema of the simple kinds that client libraries write."""
    if "$ref" in schema:
        return value_of(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choices in ("anyOf", "oneOf"):
        if choices in schema:
            return value_of(schema[choices][0], root)
    kind = schema.get("type", "object")
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: value_of(inner, root) for name, inner in fields.items()}
    if kind == "array":
        return [value_of(schema.get("items", {}), root)]
    return _VALUES[kind]


async def play(exchange: Exchange) -> None:
    """The Behaviour."""
    if is_for_embeddings(exchange):
        await _embed(exchange)
    else:
        await behaviour_for(exchange.request.json)(exchange)


def is_for_embeddings(exchange: Exchange) -> bool:
    return exchange.request.path.endswith("/embeddings")


async def _embed(exchange: Exchange) -> None:
    asked = exchange.request.json
    length = asked.get("dimensions", _DIMENSIONS)
    data = [
        {"index": i, "embedding": [len(text) / 100] * length}
        for i, text in enumerate(asked["input"])
    ]
    document = {"data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    await exchange.whole(200, orjson.dumps(document), "application/json", {})


def behaviour_for(body: Mapping[str, Any]) -> Behaviour:
    """How the model answers a request."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return answer("The weather in Lisbon: ", str(last["content"]), ".")
    choice = body.get("tool_choice")
    if (tools := body.get("tools")) and choice != "none":
        named = choice["function"]["name"] if isinstance(choice, dict) else None
        functions = [tool["function"] for tool in tools]
        return _call(next(f for f in functions if named in (None, f["name"])))
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_schema":
        schema = response_format["json_schema"]["schema"]
        return answer(json.dumps(value_of(schema, schema)))
    if response_format.get("type") == "json_object":
        return answer('{"city": "Lisbon"}')
    return answer(*GREETING)


def _call(function: Mapping[str, Any]) -> Behaviour:
    schema = function.get("parameters") or {}
    arguments = json.dumps(value_of(schema, schema))
    name = {"name": function["name"], "arguments": ""}
    half = len(arguments) // 2
    return answer(
        tool_calls=(
            {"index": 0, "id": "call_1", "type": "function", "function": name},
            {"index": 0, "function": {"arguments": arguments[:half]}},
            {"index": 0, "function": {"arguments": arguments[half:]}},
        ),
        finish_reason="tool_calls",
    )
