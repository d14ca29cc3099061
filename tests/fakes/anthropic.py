"""Anthropic's Messages API for a FakeProvider: its behaviours, and its checks of a request.

`strict(behaviour)` answers a request that the API would refuse with 400 and the reason, and any
other request with the behaviour.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from .behaviours import EVENT_STREAM, Behaviour, Exchange, Received, fail

USAGE: Mapping[str, int] = {
    "input_tokens": 7,
    "cache_creation_input_tokens": 20,
    "cache_read_input_tokens": 100,
}
OUTPUT_TOKENS = 9
_FIELDS = frozenset(
    (
        *("model", "max_tokens", "messages", "system", "stream", "stop_sequences", "temperature"),
        *("top_p", "top_k", "tools", "tool_choice", "thinking", "metadata", "output_config"),
        "service_tier",
    )
)
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_MOST_BREAKPOINTS = 4


class Refusal(Exception):
    """Why the API refuses a request."""


def signature(thought: str) -> str:
    return base64.b64encode(f"signed: {thought}".encode()).decode()


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def thought(value: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": value, "signature": signature(value)}


def call(call_id: str, name: str, value: object = None) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": value or {}}


def events(
    *blocks: Mapping[str, Any],
    stop: str | None = None,
    usage: Mapping[str, int] = USAGE,
    stop_sequence: str | None = None,
) -> list[dict[str, Any]]:
    """The events of a message with these content blocks, as the API sends them."""
    calls = any(block["type"] == "tool_use" for block in blocks)
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": 1},
    }
    found: list[dict[str, Any]] = [{"type": "message_start", "message": message}, {"type": "ping"}]
    for index, block in enumerate(blocks):
        found += _block_events(index, block)
    stop = stop or ("tool_use" if calls else "end_turn")
    if stop_sequence is not None:
        stop = "stop_sequence"
    delta = {"stop_reason": stop, "stop_sequence": stop_sequence}
    found.append(
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": OUTPUT_TOKENS}}
    )
    found.append({"type": "message_stop"})
    return found


def _block_events(index: int, block: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    start: dict[str, Any] = dict(block)
    deltas: list[dict[str, Any]] = []
    match block["type"]:
        case "text":
            start["text"] = ""
            deltas = [{"type": "text_delta", "text": part} for part in _halves(block["text"])]
        case "thinking":
            start |= {"thinking": "", "signature": ""}
            deltas = [
                {"type": "thinking_delta", "thinking": part} for part in _halves(block["thinking"])
            ]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "tool_use":
            start["input"] = {}
            arguments = orjson.dumps(block["input"]).decode() if block["input"] else ""
            deltas = [
                {"type": "input_json_delta", "partial_json": part}
                for part in ("", *_halves(arguments))
            ]
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _halves(value: str) -> list[str]:
    middle = len(value) // 2
    return [part for part in (value[:middle], value[middle:]) if part]


def encoded(event: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), orjson.dumps(event))


def streamed(*of: Mapping[str, Any]) -> Behaviour:
    """Send these events, and end the body."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head(EVENT_STREAM)
        for event in of:
            await exchange.piece(encoded(event))
        await exchange.end()

    return behave


def message(
    *blocks: Mapping[str, Any], stop: str | None = None, stop_sequence: str | None = None
) -> Behaviour:
    """Stream a message with these content blocks."""
    return streamed(*events(*blocks, stop=stop, stop_sequence=stop_sequence))


def refuse(
    kind: str, words: str, status: int, headers: Mapping[str, str] | None = None
) -> Behaviour:
    return fail(status, error(kind, words), headers)


def error(kind: str, words: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}


def strict(behaviour: Behaviour) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        try:
            check(exchange.request)
        except Refusal as refusal:
            await refuse("invalid_request_error", str(refusal), 400)(exchange)
        else:
            await behaviour(exchange)

    return behave


def check(request: Received) -> None:
    """Raises Refusal for what the API does not accept."""
    headers, body = request.headers, request.json
    _require((request.method, request.path) == ("POST", "/v1/messages"), "not found")
    _require("x-api-key" in headers or "authorization" in headers, "x-api-key: required")
    _require(headers.get("anthropic-version") == "2023-06-01", "anthropic-version: required")
    _require(headers.get("content-type") == "application/json", "content-type: JSON required")
    _require(isinstance(body, dict), "the body is not an object")
    unknown = set(body) - _FIELDS
    _require(not unknown, f"{', '.join(sorted(unknown))}: extra inputs are not permitted")
    _require(isinstance(body.get("model"), str), "model: required")
    most = body.get("max_tokens")
    _require(isinstance(most, int) and most > 0, "max_tokens: required")
    _require(0 <= body.get("temperature", 1) <= 1, "temperature: range: 0..1")
    for block in body.get("system", ()):
        _require(block["type"] == "text" and block["text"].strip(), "system: blank text")
    _check_tools(body)
    _check_thinking(body, most)
    _check_messages(body["messages"], bool(body.get("tools")))
    breakpoints = orjson.dumps(body).count(b'"cache_control"')
    _require(breakpoints <= _MOST_BREAKPOINTS, f"{breakpoints} blocks with cache_control")


def _check_tools(body: Mapping[str, Any]) -> None:
    names = [tool["name"] for tool in body.get("tools", ())]
    _require(len(names) == len(set(names)), "tools: names must be unique")
    for tool in body.get("tools", ()):
        _require(_TOOL_NAME.fullmatch(tool["name"]) is not None, "tools: invalid name")
        _require(tool["input_schema"].get("type") == "object", "tools: input_schema.type")
    if choice := body.get("tool_choice"):
        _require(bool(names), "tool_choice: may only be specified while providing tools")
        _require(choice["type"] in ("auto", "any", "tool", "none"), "tool_choice: unknown type")
        if choice["type"] == "tool":
            _require(choice["name"] in names, "tool_choice: unknown tool")


def _check_thinking(body: Mapping[str, Any], most: int) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    _require("temperature" not in body and "top_k" not in body, "temperature: not with thinking")
    if thinking["type"] == "adaptive":
        return
    budget = thinking["budget_tokens"]
    _require(1_024 <= budget < most, "max_tokens must be greater than thinking.budget_tokens")
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    _require(not forced, "thinking may not be enabled when tool_choice forces tool use")
    for message in reversed(body["messages"]):
        first = message["content"][0]
        if message["role"] == "user" and first["type"] != "tool_result":
            break
        if message["role"] == "assistant":
            expected = first["type"] in ("thinking", "redacted_thinking")
            _require(expected, "a final assistant message must start with a thinking block")


def _check_messages(messages: Sequence[Mapping[str, Any]], has_tools: bool) -> None:
    _require(bool(messages), "messages: at least one message is required")
    seen: set[str] = set()
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        _require(message["role"] == ("user", "assistant")[number % 2], "roles must alternate")
        _require(bool(message["content"]), "content must be non-empty")
        answered = [b["tool_use_id"] for b in message["content"] if b["type"] == "tool_result"]
        _require(sorted(answered) == sorted(open_calls), "tool_use ids without tool_result blocks")
        first = message["content"][: len(answered)]
        _require(all(b["type"] == "tool_result" for b in first), "tool_result blocks come first")
        open_calls = []
        for block in message["content"]:
            _check_block(message["role"], block)
            if block["type"] == "tool_use":
                _require(has_tools, "requests with tool_use blocks must define tools")
                _require(block["id"] not in seen, "tool_use ids must be unique")
                seen.add(block["id"])
                open_calls.append(block["id"])
    _require(not open_calls, "tool_use ids without tool_result blocks")


def _check_block(role: str, block: Mapping[str, Any]) -> None:
    match role, block["type"]:
        case _, "text":
            _require(bool(block["text"].strip()), "text content blocks must be non-empty")
        case "user", "image":
            source = block["source"]
            _require(source["type"] == "base64", "image.source.type")
            _require(source["media_type"] in _IMAGES, "image.source.media_type")
            base64.b64decode(source["data"], validate=True)
        case "user", "tool_result":
            for part in block.get("content", ()):
                _check_block(role, part)
        case "assistant", "tool_use":
            _require(_ID.fullmatch(block["id"]) is not None, "tool_use.id: invalid")
            _require(isinstance(block["input"], dict), "tool_use.input: should be an object")
        case "assistant", "thinking":
            valid = block["signature"] == signature(block["thinking"])
            _require(valid, "Invalid `signature` in `thinking` block")
        case "assistant", "redacted_thinking":
            _require(bool(block["data"]), "redacted_thinking.data: required")
        case _:
            raise Refusal(f"a {block['type']} block in a message of the {role}")


def _require(condition: object, words: str) -> None:
    if not condition:
        raise Refusal(words)
