"""The body of `POST /v1/chat/completions` but for its messages: types and ranges, strictly.

Fields and limits: https://platform.openai.com/docs/api-reference/chat/create.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .....domain.errors import InvalidRequest
from .fields import integral, kind_of

_HALF = re.compile("[\ud800-\udfff]")
_I64 = 2**63
_MOST_METADATA = 16
_LONGEST_STEP = 128
_Penalty = Annotated[float | None, Field(ge=-2, le=2)]
_TokenLimit = Annotated[Annotated[int, Field(ge=1, lt=_I64)] | None, BeforeValidator(integral)]
_Hint = Annotated[str, StringConstraints(min_length=1, max_length=512)]
_MetadataKey = Annotated[str, StringConstraints(max_length=64)]
_MetadataValue = Annotated[str, StringConstraints(max_length=512)]


def _stop(value: Any) -> Any:
    match value:
        case None | str():
            return value
        case list() if all(isinstance(s, str) for s in value):
            return value  # How many there may be is for the provider to say.
        case _:
            raise PydanticCustomError("stop", "must be a string or a list of strings")


def _whole(text: str) -> str:
    """An identifier is compared, so that half a surrogate pair in it cannot be replaced."""
    if not text.isascii() and _HALF.search(text):
        raise PydanticCustomError("half", "must be Unicode text without halves of surrogate pairs")
    return text


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class StreamOptions(_Wire):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchema(_Wire):
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_with_its_type(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise PydanticCustomError("json_schema", "needs `json_schema` with this type")
        return self


class Fields(_Wire):
    """Every field with a type of its own. Only what is validated here is read anywhere else."""

    model: Annotated[str, StringConstraints(max_length=512)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, AfterValidator(_whole)] | None = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    max_tokens: _TokenLimit = None
    max_completion_tokens: _TokenLimit = None
    stop: Annotated[Any, AfterValidator(_stop)] = None
    seed: Annotated[Annotated[int, Field(ge=-_I64, lt=_I64)] | None, BeforeValidator(integral)] = (
        None
    )
    presence_penalty: _Penalty = None
    frequency_penalty: _Penalty = None
    response_format: ResponseFormat | None = None
    # Providers have levels of their own, and new ones every few months.
    reasoning_effort: str | None = None
    parallel_tool_calls: bool | None = None
    metadata: Annotated[
        dict[_MetadataKey, _MetadataValue] | None, Field(max_length=_MOST_METADATA)
    ] = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    service_tier: _Hint | None = None
    verbosity: str | None = None
    prompt_cache_key: _Hint | None = None
    prompt_cache_retention: _Hint | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: _Hint | None = None


_NAMES = frozenset(Fields.model_fields)


def read_fields(body: Mapping[str, Any]) -> Fields:
    """The known fields of a body. Raises InvalidRequest that names the first one at fault."""
    try:
        return Fields.model_validate({k: v for k, v in body.items() if k in _NAMES})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    path = _path(first["loc"])
    problem = first["msg"].removeprefix("Input should ")
    problem = problem.removeprefix("be ") if problem == first["msg"] else f"must {problem}"
    kind = kind_of(first["input"])
    raise InvalidRequest(f"`{path}`: {problem}, not {kind}.", param=path)


def _path(location: tuple[int | str, ...]) -> str:
    """`response_format.json_schema.name`, as OpenAI spells paths; a key that the client chose is
    cut."""
    return ".".join(str(step)[:_LONGEST_STEP] for step in location if step != "[key]")
