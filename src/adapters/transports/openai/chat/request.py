"""The body of a chat completion, read and checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .....domain.messages import Message
from ..common import DEFAULT_MODEL, Ignored, read_fields, read_messages
from .parameters import PARAMETERS, wants_usage
from .schema import Fields


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A valid request. `model` is the string that answers repeat."""

    messages: tuple[Message, ...]
    model: str
    stream: bool
    include_usage: bool
    user: str | None
    params: Mapping[str, object]
    ignored: str
    """The names of fields that nobody here knows, as a header's value; mostly empty."""


def read_request(body: Mapping[str, Any]) -> ChatRequest:
    """Raises InvalidRequest and Unsupported; their `param` is the path of the field at fault."""
    ignored = Ignored()
    fields = read_fields(Fields, body)
    params = PARAMETERS.read(body, ignored)
    include_usage = wants_usage(body, fields, ignored)
    return ChatRequest(
        messages=read_messages(body.get("messages"), ignored),
        model=DEFAULT_MODEL if fields.model is None else fields.model,
        stream=bool(fields.stream),
        include_usage=include_usage,
        user=fields.user,
        params=params,
        ignored=ignored.header,
    )
