"""Types of fields that several formats have, how a body is checked against them, and which of its
fields go to the provider.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
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

from ....domain.errors import InvalidRequest, Unsupported
from ..http.fields import Ignored, integral, kind_of
from ..http.json_text import dumps

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
    path = _path(first["loc"], body)
    problem = first["msg"].removeprefix("Input should ")
    problem = problem.removeprefix("be ") if problem == first["msg"] else f"must {problem}"
    kind = kind_of(first["input"])
    raise InvalidRequest(f"`{path}`: {problem}, not {kind}.", param=path)


def _path(location: tuple[int | str, ...], value: object) -> str:
    """`response_format.json_schema.name` or `include[0]`, as OpenAI spells paths; a key that the
    client chose is cut. A step that leads nowhere in `value` is the name of a union's member, or
    `[key]`; the last one may be that of a missing field."""
    path = ""
    for number, step in enumerate(location, 1):
        match value, step:
            case (dict(), _) if step in value:
                value = value[step]
            case (list(), int()) if step < len(value):
                value = value[step]
                path += f"[{step}]"
                continue
            case (dict(), _) if number == len(location) and step != "[key]":
                pass
            case _:
                continue
        path += f".{str(step)[:_LONGEST_STEP]}"
    return path.removeprefix(".")


_INTEGERS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "seed")
_EMPTY: tuple[object, ...] = (None, [], {})
"""Values without an effect for any parameter; some providers reject them."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a format, by their names.

    `passed_on` reach the provider as they came. `neutral` are known but not honoured: null and the
    values listed have no effect; any other value is rejected. `own` are read by the transport.
    """

    passed_on: frozenset[str]
    neutral: Mapping[str, tuple[object, ...]]
    own: frozenset[str]

    def read(self, body: Mapping[str, Any], ignored: Ignored) -> dict[str, object]:
        """The model parameters of a body whose types are right. Raises Unsupported."""
        for name, neutral in self.neutral.items():
            if name in body:
                _require_neutral(name, body[name], neutral)
        ignored.note(body, self.own | self.passed_on | self.neutral.keys())
        passed_on = self.passed_on
        params = {k: v for k, v in body.items() if k in passed_on and v not in _EMPTY}
        for name in _INTEGERS:
            if name in params:
                params[name] = integral(params[name])
        return params


def _require_neutral(name: str, value: object, neutral: tuple[object, ...]) -> None:
    # With the type: to Python 1 and true are equal.
    value = integral(value)
    if value is None or any(type(value) is type(v) and value == v for v in neutral):
        return
    allowed = " or ".join(["null", *(dumps(v).decode() for v in neutral)])
    raise Unsupported(
        f"`{name}` is not supported by this Gateway. Leave it out, or send {allowed}.", param=name
    )
