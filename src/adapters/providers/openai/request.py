"""Builds the address, headers and body of `POST /chat/completions` from a ModelRequest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from weakref import ref

import orjson

from ....domain.messages import Image, Message, Part, Role, Text, ToolCall
from ....domain.models import Compat, ModelRequest, Provider
from ....domain.tools import ToolSpec
from .failures import FailureFactory

_TOKEN_LIMITS = ("max_completion_tokens", "max_tokens")
"""Two names of the same limit, the newer one first."""


def address(provider: Provider, headers: Mapping[str, str], failures: FailureFactory) -> str:
    """The URL of calls. A query in the base URL (Azure's `api-version`) is preserved.

    Raises ModelFailed (UNREACHABLE) if the base URL is not an http or https URL.
    """
    try:
        url = urlsplit(provider.base_url)
    except ValueError:
        url = urlsplit("")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise failures.bad_address()
    netloc = url.netloc
    if any(name.lower() == "authorization" for name in headers):
        netloc = netloc.rpartition("@")[2]  # aiohttp would add one for `user:password@`.
    path = url.path.rstrip("/") + "/chat/completions"
    return urlunsplit((url.scheme, netloc, path, url.query, ""))


def headers(provider: Provider) -> dict[str, str]:
    """The headers of every call. Configured headers override the default ones.

    Compression is not requested, because it delays the chunks of a stream.
    """
    defaults = {
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": "OpenSoul",
    }
    if provider.api_key and provider.auth_header:
        defaults["Authorization"] = f"Bearer {provider.api_key.reveal()}"
    configured = {name: secret.reveal() for name, secret in provider.headers}
    overridden = {name.lower() for name in configured}
    kept = {name: value for name, value in defaults.items() if name.lower() not in overridden}
    return kept | configured


class Encoder:
    """Encodes messages as JSON and caches each result for the lifetime of the Message object.

    A session's transcript is sent with every turn, so most messages have been sent before. The
    cache is keyed by identity (hashing the content would cost more than encoding it); a weak
    reference removes the entry when the message is collected, before its id can be reused.

    Thread-safe: if two threads encode the same message, the last entry stays, with an equal value.
    The caller holds the message, so its entry cannot disappear during a call.
    """

    def __init__(self) -> None:
        self._encoded: dict[int, tuple[ref[Message], bytes]] = {}

    def __call__(self, messages: Iterable[Message]) -> orjson.Fragment:
        """A JSON array. Raises orjson.JSONEncodeError."""
        return orjson.Fragment(b"[" + b",".join(map(self._encode, messages)) + b"]")

    def __len__(self) -> int:
        return len(self._encoded)

    def _encode(self, message: Message) -> bytes:
        known = self._encoded.get(id(message))
        if known is not None:
            return known[1]
        # Copied, because orjson's result is over-allocated by some kilobytes.
        encoded = bytes(memoryview(orjson.dumps(_message(message))))
        forget = partial(self._forget, id(message))
        self._encoded[id(message)] = (ref(message, forget), encoded)
        return encoded

    def _forget(self, key: int, gone: ref[Message]) -> None:
        if self._encoded[key][0] is gone:
            del self._encoded[key]


def body(request: ModelRequest, encode: Encoder, failures: FailureFactory) -> bytes:
    """The JSON text of the call. Raises ModelFailed (BAD_REQUEST) if it cannot be expressed."""
    target = request.target
    content: dict[str, Any] = {
        **_parameters(request, failures),
        "model": target.model,
        "stream": True,
    }
    if request.tools:
        content["tools"] = [_tool(spec) for spec in request.tools]
    content.pop("stream_options", None)
    if target.compat.supports_usage_in_stream:
        content["stream_options"] = {"include_usage": True}
    try:
        content["messages"] = encode(request.messages)
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
    content: dict[str, object] = {"role": message.role.value, "content": _content(message)}
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
    """A string unless there are images: not every provider supports content parts."""
    if message.role is Role.USER and any(isinstance(part, Image) for part in message.parts):
        return [item for part in message.parts for item in _content_part(part)]
    return message.text


def _content_part(part: Part) -> Iterable[dict[str, object]]:
    match part:
        case Text(text=text):
            yield {"type": "text", "text": text}
        case Image(data=data, mime=mime):
            yield {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}


def _tool(spec: ToolSpec) -> dict[str, object]:
    function = {
        "name": spec.name,
        "description": spec.description,
        "parameters": dict(spec.parameters) or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}


def _call(call: ToolCall) -> dict[str, object]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
