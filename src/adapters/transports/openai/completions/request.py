"""The body of a completion, read and checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from .....domain.errors import InvalidRequest, Unsupported
from .....domain.messages import Message, Role, Text
from ...answering import Parameters, parameters, read_fields
from ...http.fields import Ignored, kind_of, wrong
from ..common import DEFAULT_MODEL, Stop, StreamOptions, wants_usage

_PROMPT = "a string, or a list with one string"


class Fields(parameters.Strict):
    """Every field with a type of its own. Only what is validated here is read anywhere else."""

    model: parameters.Model | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: parameters.Identifier | None = None
    echo: bool | None = None
    temperature: parameters.Temperature = None
    top_p: parameters.TopP = None
    max_tokens: parameters.TokenLimit = None
    stop: Stop = None
    seed: parameters.Seed = None
    presence_penalty: parameters.Penalty = None
    frequency_penalty: parameters.Penalty = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None


_OWN = frozenset({"prompt", "model", "stream", "stream_options", "user", "echo"})

PASSED_ON = frozenset(Fields.model_fields) - _OWN
"""Reach the provider under their own names, as they came."""

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "suffix": ("",),
    # The format has no place for calls of a client's tools.
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
}

PARAMETERS = Parameters(PASSED_ON, NEUTRAL, _OWN)

PROMPT_SCHEMA: Mapping[str, Any] = {
    "oneOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1},
    ]
}
"""What `prompt` may be."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A valid request. `model` is the string that answers repeat."""

    prompt: str
    model: str
    echo: bool
    """Answers begin with the prompt."""
    stream: bool
    include_usage: bool
    user: str | None
    params: Mapping[str, object]
    ignored: str
    """The names of unknown fields, as a header's value; mostly empty."""

    @property
    def messages(self) -> tuple[Message, ...]:
        return (Message(Role.USER, (Text(self.prompt),)),)


def read_request(body: Mapping[str, Any]) -> CompletionRequest:
    """Raises InvalidRequest and Unsupported; their `param` is the field at fault."""
    ignored = Ignored()
    fields = read_fields(Fields, body)
    params = PARAMETERS.read(body, ignored)
    include_usage = wants_usage(body, fields.stream, fields.stream_options, ignored)
    return CompletionRequest(
        prompt=_prompt(body),
        model=DEFAULT_MODEL if fields.model is None else fields.model,
        echo=bool(fields.echo),
        stream=bool(fields.stream),
        include_usage=include_usage,
        user=fields.user,
        params=params,
        ignored=ignored.header,
    )


def _prompt(body: Mapping[str, Any]) -> str:
    value = body.get("prompt")
    match value:
        case None:
            raise InvalidRequest(
                f"`prompt` is missing; it must be {_PROMPT}. A conversation in `messages` is for "
                "POST /v1/chat/completions.",
                param="prompt",
            )
        case str(text) | [str(text)] if text.strip():
            return text
        case str() | [str()]:
            raise InvalidRequest("`prompt` is empty; it must have text.", param="prompt")
        case [str(), _, *_]:
            raise Unsupported(
                f"`prompt` has {len(value)} items; the limit is 1. Send a request for each prompt.",
                param="prompt",
            )
        case [int() | list(), *_]:
            raise Unsupported(
                f"`prompt` has tokens, which are not supported; it must be {_PROMPT}.",
                param="prompt",
            )
        case [item]:
            raise InvalidRequest(
                f"`prompt[0]` must be a string, not {kind_of(item)}.", param="prompt"
            )
        case _:
            raise wrong("prompt", _PROMPT, value)
