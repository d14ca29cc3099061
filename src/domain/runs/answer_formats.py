"""The format that a client requires of an answer, and what is wrong with a text in its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

CheckValue = Callable[[object], str | None]
"""What is wrong with a JSON value; None: nothing."""
CompileSchema = Callable[[Mapping[str, object]], CheckValue]
"""Makes the check of a JSON Schema. Raises ValueError: the schema cannot be used."""

SCHEMA_PARAM = "response_format.json_schema.schema"

_FENCE = "```"


def any_value(schema: Mapping[str, object]) -> CheckValue:
    """The CompileSchema that accepts all schemas and all values."""
    return lambda value: None


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The answer is JSON: an object where `is_object`, and what `schema` describes where `strict`;
    otherwise the schema is a hint for the model."""

    is_object: bool = False
    schema: Mapping[str, object] | None = None
    strict: bool = False

    def read(self, text: str, check: CheckValue | None) -> tuple[str, str | None]:
        """The JSON text, without a code fence around it, and what is wrong with it. `check` is that
        of the schema."""
        text = _unfenced(text)
        if not text.strip():
            return text, "it is empty"
        try:
            value = json.loads(text, parse_constant=_no_constant)
            if self.is_object and not isinstance(value, dict):
                return text, "it is no JSON object"
            return text, None if check is None or not self.strict else check(value)
        except ValueError as error:
            return text, f"it is no valid JSON ({error})"
        except RecursionError:
            return text, "it is nested too deeply"


def answer_format(params: Mapping[str, object]) -> AnswerFormat | None:
    """The format in model parameters with OpenAI's names; None: any text."""
    match params.get("response_format"):
        case {"type": "json_object"}:
            return AnswerFormat(is_object=True)
        case {"type": "json_schema", "json_schema": Mapping() as described}:
            schema = described.get("schema")
            strict = described.get("strict") is True
            return AnswerFormat(False, schema if isinstance(schema, Mapping) else None, strict)
    return None


def _unfenced(text: str) -> str:
    stripped = text.strip()
    if not (stripped.startswith(_FENCE) and stripped.endswith(_FENCE)):
        return text
    language, newline, rest = stripped.removeprefix(_FENCE).partition("\n")
    is_fence = newline and (not language.strip() or language.strip().isalnum())
    return rest.removesuffix(_FENCE).strip() if is_fence else text


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")
