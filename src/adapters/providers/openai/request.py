"""Builds the body of `POST /chat/completions` from a ModelRequest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ....domain.messages import Image, Message, Part, Role, Text, ToolCall
from ....domain.models import Compat, ModelRequest
from ....domain.tools import ToolSpec
from ..http import FailureFactory, PerMessage, instructed, negotiated

_TOKEN_LIMITS = ("max_completion_tokens", "max_tokens")
"""Two names of the same limit, the newer one first."""
_SHOWING = (Role.USER, Role.TOOL)
_FAILED = "[The call failed.]"
"""Begins the result of a client's call that failed: the format has no field for that."""
_NO_IMAGE = Text("[A picture was here. You cannot see it: results of tools are texts here.]")


class Encoder:
    """Encodes messages as JSON."""

    def __init__(self) -> None:
        self._encode = PerMessage(_encoded)

    def __call__(self, messages: Iterable[Message]) -> orjson.Fragment:
        """A JSON array. Raises orjson.JSONEncodeError."""
        return orjson.Fragment(b"[" + b",".join(map(self._encode, messages)) + b"]")

    def __len__(self) -> int:
        return len(self._encode)


def _encoded(message: Message) -> bytes:
    # Copied, because orjson's result is over-allocated by some kilobytes.
    return bytes(memoryview(orjson.dumps(_message(message))))


def body(request: ModelRequest, encode: Encoder, failures: FailureFactory) -> bytes:
    """The JSON text of the call. Raises ModelFailed (BAD_REQUEST) if it cannot be expressed."""
    target = request.target
    params = _parameters(request, failures)
    messages = request.messages
    if "response_format" in params:
        support = target.compat.response_format
        wanted, instruction = negotiated(params["response_format"], support)
        messages = instructed(messages, instruction)
        params = {**params, "response_format": wanted}
        if wanted is None:
            del params["response_format"]
    content: dict[str, Any] = {
        **params,
        "model": target.model,
        "stream": True,
    }
    if request.tools:
        content["tools"] = [_tool(spec) for spec in request.tools]
    content.pop("stream_options", None)
    if target.compat.supports_usage_in_stream:
        content["stream_options"] = {"include_usage": True}
    try:
        content["messages"] = encode(messages)
        return orjson.dumps(content)
    except orjson.JSONEncodeError as error:
        problem = str(error)
    raise failures.unsendable(f"The request cannot be written as JSON: {problem}.")


def _parameters(request: ModelRequest, failures: FailureFactory) -> dict[str, object]:
    """The target's parameters overridden by the request's; None means absent."""
    requested = {name: value for name, value in request.params.items() if value is not None}
    params = {name: value for name, value in request.target.params if value is not None}
    if any(name in requested for name in _TOKEN_LIMITS):
        for name in _TOKEN_LIMITS:
            params.pop(name, None)
    params |= requested
    _check(params, request.target.compat, failures)
    field = request.target.compat.max_tokens_field
    limits = [params[name] for name in _TOKEN_LIMITS if name in params]
    if field is not None and limits:
        params = {name: value for name, value in params.items() if name not in _TOKEN_LIMITS}
        params[field] = limits[0]
    return params


def _check(params: dict[str, object], compat: Compat, failures: FailureFactory) -> None:
    """Reject parameters that the provider does not support, rather than drop them silently."""
    if not compat.supports_store and params.get("store") is False:
        del params["store"]  # The behaviour of such a provider anyway.
    known = {"reasoning_effort": compat.supports_reasoning_effort, "store": compat.supports_store}
    for name, supported in known.items():
        if name in params and not supported:
            raise failures.unsendable(
                f"The model of this agent does not support {name!r}.", param=name
            )


def _message(message: Message) -> dict[str, object]:
    content: dict[str, object] = {"role": str(message.role), "content": _content(message)}
    # The results of the agent's own tools have the tool's name, and their texts say what failed.
    if message.is_error and message.name is None:
        content["content"] = f"{_FAILED}\n{content['content']}"
    if message.name is not None:
        content["name"] = message.name
    if message.role is Role.TOOL and message.tool_call_id is not None:
        content["tool_call_id"] = message.tool_call_id
    calls = [_call(part) for part in message.parts if isinstance(part, ToolCall)]
    if calls:
        content["tool_calls"] = calls
        content["content"] = message.text or None
    return content


def _content(message: Message) -> str | list[dict[str, object]]:
    """A string unless a user shows images: not every provider supports content parts."""
    if message.role in _SHOWING and any(isinstance(part, Image) for part in message.parts):
        if message.role is Role.USER:
            return [item for part in message.parts for item in _content_part(part)]
        texts = (_NO_IMAGE if isinstance(part, Image) else part for part in message.parts)
        return "\n".join(part.text for part in texts if isinstance(part, Text))
    return message.text


def _content_part(part: Part) -> Iterable[dict[str, object]]:
    match part:
        case Text(text=text):
            yield {"type": "text", "text": text}
        case Image(data=data, mime=mime):
            image = {"url": f"data:{mime};base64,{data}"}
            yield {
                "type": "image_url",
                "image_url": {**image, "detail": part.detail} if part.detail else image,
            }


def _tool(spec: ToolSpec) -> dict[str, object]:
    function: dict[str, object] = {
        "name": spec.name,
        "description": spec.description,
        "parameters": dict(spec.parameters) or {"type": "object", "properties": {}},
    }
    if not spec.description:
        del function["description"]
    if spec.strict is not None:
        function["strict"] = spec.strict
    return {"type": "function", "function": function}


def _call(call: ToolCall) -> dict[str, object]:
    # Some clients write a call without arguments so, and servers that parse them refuse that.
    function = {"name": call.name, "arguments": call.arguments if call.arguments.strip() else "{}"}
    return {"id": call.id, "type": "function", "function": function}
