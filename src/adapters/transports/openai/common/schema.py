"""Types of fields that several formats have, and how a body is checked against a model of them.

Fields and limits: https://platform.openai.com/docs/api-reference/chat/create.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from .....domain.errors import InvalidRequest
from .fields import integral, kind_of

_HALF = re.compile("[\ud800-\udfff]")
_I64 = 2**63
_MOST_METADATA = 16
_LONGEST_STEP = 128


def _whole(text: str) -> str:
    """An identifier is compared, so that half a surrogate pair in it cannot be replaced."""
    if not text.isascii() and _HALF.search(text):
        raise PydanticCustomError("half", "must be Unicode text without halves of surrogate pairs")
    return text


Model = Annotated[str, StringConstraints(max_length=512)]
Identifier = Annotated[str, AfterValidator(_whole)]
Temperature = Annotated[float | None, Field(ge=0, le=2)]
TopP = Annotated[float | None, Field(ge=0, le=1)]
Penalty = Annotated[float | None, Field(ge=-2, le=2)]
TokenLimit = Annotated[Annotated[int, Field(ge=1, lt=_I64)] | None, BeforeValidator(integral)]
Seed = Annotated[Annotated[int, Field(ge=-_I64, lt=_I64)] | None, BeforeValidator(integral)]
Hint = Annotated[str, StringConstraints(min_length=1, max_length=512)]
_MetadataKey = Annotated[str, StringConstraints(max_length=64)]
_MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[_MetadataKey, _MetadataValue] | None, Field(max_length=_MOST_METADATA)]


class Strict(BaseModel):
    """Takes no value for one of another type; unknown fields are reported elsewhere."""

    model_config = ConfigDict(strict=True, extra="ignore")


F = TypeVar("F", bound=Strict)


def read_fields(model: type[F], body: Mapping[str, Any]) -> F:
    """The fields of a body that `model` has. Raises InvalidRequest that names the first one at
    fault."""
    names = model.model_fields
    try:
        return model.model_validate({k: v for k, v in body.items() if k in names})
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
