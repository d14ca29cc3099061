"""The body of `POST /v1/chat/completions` but for its messages: types and ranges, strictly.

Fields and limits: https://platform.openai.com/docs/api-reference/chat/create.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from ..common import (
    Hint,
    Identifier,
    Metadata,
    Model,
    Penalty,
    Seed,
    Strict,
    Temperature,
    TokenLimit,
    TopP,
)


def _stop(value: Any) -> Any:
    match value:
        case None | str():
            return value
        case list() if all(isinstance(s, str) for s in value):
            return value  # How many there may be is for the provider to say.
        case _:
            raise PydanticCustomError("stop", "must be a string or a list of strings")


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchema(Strict):
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_with_its_type(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise PydanticCustomError("json_schema", "needs `json_schema` with this type")
        return self


class Fields(Strict):
    """Every field with a type of its own. Only what is validated here is read anywhere else."""

    model: Model | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Identifier | None = None
    temperature: Temperature = None
    top_p: TopP = None
    max_tokens: TokenLimit = None
    max_completion_tokens: TokenLimit = None
    stop: Annotated[Any, AfterValidator(_stop)] = None
    seed: Seed = None
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    response_format: ResponseFormat | None = None
    # Providers have levels of their own, and new ones every few months.
    reasoning_effort: str | None = None
    parallel_tool_calls: bool | None = None
    metadata: Metadata = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    service_tier: Hint | None = None
    verbosity: str | None = None
    prompt_cache_key: Hint | None = None
    prompt_cache_retention: Hint | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: Hint | None = None
