"""Which fields go to the provider, which must be neutral, and which nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .....domain.errors import Unsupported
from ...http.json_text import dumps
from .fields import Ignored, integral
from .schema import Fields

_OURS = frozenset({"messages", "model", "stream", "stream_options", "user"})
_STREAM_OPTIONS = frozenset({"include_usage", "include_obfuscation"})

PASSED_ON = frozenset(Fields.model_fields) - _OURS
"""Reach the provider under their own names, as they came."""

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "store": (False,),
    "web_search_options": (),
}
"""Known, but not honoured: null and these values ask for nothing; any other is refused."""

_INTEGERS = ("max_tokens", "max_completion_tokens", "seed")
_EMPTY: tuple[object, ...] = (None, [], {})
"""Values of any parameter that ask for nothing; some providers refuse them."""

_KNOWN = _OURS | PASSED_ON | NEUTRAL.keys()


def read_parameters(body: Mapping[str, Any], ignored: Ignored) -> dict[str, object]:
    """The model parameters of a body whose types are right. Raises Unsupported."""
    for name, neutral in NEUTRAL.items():
        if name in body:
            _require_neutral(name, body[name], neutral)
    ignored.note(body, _KNOWN)
    params = {name: body[name] for name in body if name in PASSED_ON and body[name] not in _EMPTY}
    for name in _INTEGERS:
        if name in params:
            params[name] = integral(params[name])
    return params


def wants_usage(body: Mapping[str, Any], fields: Fields, ignored: Ignored) -> bool:
    """Whether the stream shall end with a usage chunk. Raises Unsupported."""
    options = fields.stream_options
    if options is None or not fields.stream:
        return False  # Some libraries send the options with every request.
    if options.include_obfuscation:
        path = "stream_options.include_obfuscation"
        raise Unsupported(f"`{path}` is not supported. Leave it out, or send false.", param=path)
    ignored.note(body["stream_options"], _STREAM_OPTIONS, "stream_options.")
    return bool(options.include_usage)


def _require_neutral(name: str, value: object, neutral: tuple[object, ...]) -> None:
    # With the type: to Python 1 and true are equal.
    value = integral(value)
    if value is None or any(type(value) is type(v) and value == v for v in neutral):
        return
    allowed = " or ".join(["null", *(dumps(v).decode() for v in neutral)])
    raise Unsupported(
        f"`{name}` is not supported by this Gateway. Leave it out, or send {allowed}.", param=name
    )
