"""The body of a request for embeddings, read and checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .....domain.errors import InvalidRequest, Unsupported
from ...answering import parameters, read_fields
from ...http.fields import Ignored, a_list, integral, kind_of, wrong
from ..common import DEFAULT_MODEL

MAX_TEXTS = 2_048
"""Texts of one request, as in OpenAI's API."""
_MAX_DIMENSIONS = 65_536
_INPUT = "a string or a list of strings"


class Fields(parameters.Strict):
    """Every field with a type of its own."""

    model: parameters.Model | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[
        Annotated[int, Field(ge=1, le=_MAX_DIMENSIONS)] | None, BeforeValidator(integral)
    ] = None
    input_type: parameters.Hint | None = None


_KNOWN = frozenset(Fields.model_fields) | {"input"}

INPUT_SCHEMA: Mapping[str, Any] = {
    "oneOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "maxItems": MAX_TEXTS,
        },
    ]
}
"""What `input` may be."""


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """A valid request."""

    texts: tuple[str, ...]
    model: str
    base64: bool
    dimensions: int | None
    input_type: str | None
    ignored: str
    """The names of unknown fields, as a header's value; mostly empty."""


def read_request(body: Mapping[str, Any]) -> EmbeddingsRequest:
    """Raises InvalidRequest and Unsupported; their `param` is the field at fault."""
    ignored = Ignored()
    fields = read_fields(Fields, body)
    ignored.note(body, _KNOWN)
    return EmbeddingsRequest(
        texts=_texts(body),
        model=DEFAULT_MODEL if fields.model is None else fields.model,
        base64=fields.encoding_format == "base64",
        dimensions=fields.dimensions,
        input_type=fields.input_type,
        ignored=ignored.header,
    )


def _texts(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("input")
    match value:
        case None:
            raise InvalidRequest(f"`input` is missing; it must be {_INPUT}.", param="input")
        case str():
            value = [value]
        case [int() | list(), *_]:
            raise Unsupported(
                f"`input` has tokens, which are not supported; it must be {_INPUT}.", param="input"
            )
        case [_, *_]:
            pass
        case _:
            raise wrong("input", _INPUT, value)
    found: list[str] = []
    for place, text in enumerate(a_list(value, "input", MAX_TEXTS)):
        if not isinstance(text, str):
            raise InvalidRequest(
                f"`input[{place}]` must be a string, not {kind_of(text)}.", param="input"
            )
        if not text:
            raise InvalidRequest(f"`input[{place}]` is empty; it must have text.", param="input")
        found.append(text)
    return tuple(found)
