"""Which fields of a chat completion go to the provider, and which must be neutral."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .....domain.errors import Unsupported
from ..common import Ignored, Parameters
from .schema import Fields

_OWN = frozenset({"messages", "model", "stream", "stream_options", "user"})
_STREAM_OPTIONS = frozenset({"include_usage", "include_obfuscation"})

PASSED_ON = frozenset(Fields.model_fields) - _OWN
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

PARAMETERS = Parameters(PASSED_ON, NEUTRAL, _OWN)


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
