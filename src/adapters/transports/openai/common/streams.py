"""Fields of formats whose answers are streamed as chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from .....domain.errors import Unsupported
from ...answering import parameters
from ...http.fields import Ignored


def _stop(value: Any) -> Any:
    match value:
        case None | str():
            return value
        case list() if all(isinstance(s, str) for s in value):
            return value  # How many there may be is for the provider to say.
        case _:
            raise PydanticCustomError("stop", "must be a string or a list of strings")


Stop = Annotated[Any, AfterValidator(_stop)]


class StreamOptions(parameters.Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_STREAM_OPTIONS = frozenset(StreamOptions.model_fields)


def wants_usage(
    body: Mapping[str, Any], stream: bool | None, options: StreamOptions | None, ignored: Ignored
) -> bool:
    """Whether the stream shall end with a usage chunk. Raises Unsupported."""
    if options is None or not stream:
        return False  # Some libraries send the options with every request.
    if options.include_obfuscation:
        path = "stream_options.include_obfuscation"
        raise Unsupported(f"`{path}` is not supported. Leave it out, or send false.", param=path)
    ignored.note(body["stream_options"], _STREAM_OPTIONS, "stream_options.")
    return bool(options.include_usage)
