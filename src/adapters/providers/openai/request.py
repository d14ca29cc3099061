"""A ModelRequest in OpenAI's words: address, headers and body of `POST /chat/completions`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from weakref import ref

import orjson

from ....domain.messages import Image, Message, Part, Role, Text, ToolCall
from ....domain.models import Compat, ModelRequest, Provider
from .failures import FailureFactory

_TOKEN_LIMITS = ("max_completion_tokens", "max_tokens")
"""Two names of one limit, the newer first."""


def address(provider: Provider, headers: Mapping[str, str], failures: FailureFactory) -> str:
    """Where calls go. A query in the base URL (Azure's `api-version`) is kept.

    Raises ModelFailed (UNREACHABLE) for a base URL that is no http or https address.
    """
    try:
        url = urlsplit(provider.base_url)
    except ValueError:
        url = urlsplit("")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise failures.bad_address()
    netloc = url.netloc
    if any(name.lower() == "authorization" for name in headers):
        netloc = netloc.rpartition("@")[2]  # aiohttp would make a second one of `user:password@`.
    path = url.path.rstrip("/") + "/chat/completions"
    return urlunsplit((url.scheme, netloc, path, url.query, ""))


def headers(provider: Provider) -> dict[str, str]:
    """The headers of every call. What is configured for the provider wins over all of ours.

    Compressed answers are not asked for: compressing holds back the pieces of a stream.
    """
    ours = {
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": "OpenSoul",
    }
    if provider.api_key and provider.auth_header:
        ours["Authorization"] = f"Bearer {provider.api_key.reveal()}"
    theirs = {name: secret.reveal() for name, secret in provider.headers}
    configured = {name.lower() for name in theirs}
    return {name: value for name, value in ours.items() if name.lower() not in configured} | theirs


class Encoder:
    """Messages as JSON, each encoded once for as long as somebody keeps it.

    A session in use is sent with every turn, and most of its messages were sent before.

    It may be used by several threads at once. Two that meet at one message both encode it, and the
    entry of the last stays; who calls holds the message, so no entry can go in between.
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
        # A copy: what orjson makes takes some kilobytes more than it is long.
        encoded = bytes(memoryview(orjson.dumps(_message(message))))
        # By identity: comparing by content would cost more than encoding.
        forget = partial(self._forget, id(message))
        self._encoded[id(message)] = (ref(message, forget), encoded)
        return encoded

    def _forget(self, key: int, gone: ref[Message]) -> None:
        if self._encoded[key][0] is gone:
            del self._encoded[key]


def body(request: ModelRequest, encode: Encoder, failures: FailureFactory) -> bytes:
    """The JSON text of the call. Raises ModelFailed (BAD_REQUEST) for what cannot be said in it."""
    target = request.target
    content: dict[str, Any] = {
        **_parameters(request, failures),
        "model": target.model,
        "stream": True,
    }
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
    """The target's own parameters under the request's; None means not said."""
    asked = {name: value for name, value in request.params.items() if value is not None}
    params = {name: value for name, value in request.target.params if value is not None}
    if any(name in asked for name in _TOKEN_LIMITS):
        for name in _TOKEN_LIMITS:
            params.pop(name, None)
    params |= asked
    _check(params, request.target.compat, failures)
    field = request.target.compat.max_tokens_field
    limits = [params[name] for name in _TOKEN_LIMITS if name in params]
    if field is not None and limits:
        params = {name: value for name, value in params.items() if name not in _TOKEN_LIMITS}
        params[field] = limits[0]
    return params


def _check(params: dict[str, object], compat: Compat, failures: FailureFactory) -> None:
    """Refuse what the provider is known not to understand, rather than drop it in silence."""
    if not compat.supports_store and params.get("store") is False:
        del params["store"]  # Not storing is what such a provider does anyway.
    known = {"reasoning_effort": compat.supports_reasoning_effort, "store": compat.supports_store}
    for name, supported in known.items():
        if name in params and not supported:
            raise failures.unsendable(f"The model behind this agent has no {name!r}.", param=name)


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
    """A plain text wherever that says it all: not every provider understands content parts."""
    shown = message.role is Role.USER and any(isinstance(part, Image) for part in message.parts)
    return [said for part in message.parts for said in _said(part)] if shown else message.text


def _said(part: Part) -> Iterable[dict[str, object]]:
    match part:
        case Text(text=text):
            yield {"type": "text", "text": text}
        case Image(data=data, mime=mime):
            yield {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}


def _call(call: ToolCall) -> dict[str, object]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
