"""The body of a chat completion, read and checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from .....domain.immutable import immutable
from .....domain.messages import Message
from ...answering import Parameters, parameters, read_fields
from ...http.fields import Ignored
from ...media import MediaPart
from ..common import (
    DEFAULT_MODEL,
    TOOL_FIELDS,
    ReadTools,
    Stop,
    StreamOptions,
    read_messages,
    read_tools,
    wants_usage,
)


class JsonSchema(parameters.Strict):
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(parameters.Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_with_its_type(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise PydanticCustomError("json_schema", "needs `json_schema` with this type")
        return self


class Fields(parameters.Strict):
    """Every field with a type of its own. Only what is validated here is read anywhere else."""

    model: parameters.Model | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: parameters.Identifier | None = None
    temperature: parameters.Temperature = None
    top_p: parameters.TopP = None
    max_tokens: parameters.TokenLimit = None
    max_completion_tokens: parameters.TokenLimit = None
    stop: Stop = None
    seed: parameters.Seed = None
    presence_penalty: parameters.Penalty = None
    frequency_penalty: parameters.Penalty = None
    response_format: ResponseFormat | None = None
    # Providers have levels of their own, and new ones every few months.
    reasoning_effort: str | None = None
    parallel_tool_calls: bool | None = None
    metadata: parameters.Metadata = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    service_tier: parameters.Hint | None = None
    verbosity: str | None = None
    prompt_cache_key: parameters.Hint | None = None
    prompt_cache_retention: parameters.Hint | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: parameters.Hint | None = None


_OWN = TOOL_FIELDS | {"messages", "model", "stream", "stream_options", "user"}

PASSED_ON = frozenset(Fields.model_fields) - _OWN
"""Reach the provider under their own names, as they came."""

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "audio": (),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "store": (False, True),
    "web_search_options": (),
}

PARAMETERS = Parameters(PASSED_ON, NEUTRAL, _OWN)
_SESSION_KEY = "session_key"
"""The key of the metadata that is for the Gateway."""


@immutable(frozen=True, slots=True)
class ChatRequest:
    """A valid request. `model` is the string that answers repeat."""

    messages: tuple[Message, ...]
    model: str
    stream: bool
    include_usage: bool
    session_key: str | None
    """In the metadata."""
    user: str | None
    tools: ReadTools
    params: Mapping[str, object]
    ignored: str
    """The names of unknown fields, as a header's value; mostly empty."""
    media: Sequence[MediaPart] = ()
    """Pictures and files whose content is still to be read into the messages."""


def read_request(body: Mapping[str, Any]) -> ChatRequest:
    """Raises InvalidRequest and Unsupported; their `param` is the path of the field at fault."""
    ignored = Ignored()
    fields = read_fields(Fields, body)
    params = PARAMETERS.read(body, ignored)
    include_usage = wants_usage(body, fields.stream, fields.stream_options, ignored)
    session_key = None
    if fields.metadata and _SESSION_KEY in fields.metadata:
        session_key = fields.metadata.pop(_SESSION_KEY)
        params["metadata"] = fields.metadata
        if not fields.metadata:
            del params["metadata"]
    media: list[MediaPart] = []
    return ChatRequest(
        messages=read_messages(body.get("messages"), ignored, media),
        model=DEFAULT_MODEL if fields.model is None else fields.model,
        stream=bool(fields.stream),
        include_usage=include_usage,
        session_key=session_key,
        user=fields.user,
        tools=read_tools(body, ignored),
        params=params,
        ignored=ignored.header,
        media=media,
    )
