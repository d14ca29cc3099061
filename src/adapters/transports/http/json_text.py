"""JSON text in and out, as strict as the standard and as fast as orjson."""

from __future__ import annotations

import json
from typing import NoReturn

import orjson

from ....domain.errors import InvalidRequest

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def dumps(value: object) -> bytes:
    """JSON text. Lone surrogates, which UTF-8 cannot hold, are written as escapes."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def loads(text: bytes) -> object:
    """The value of a JSON text; of two equal keys in an object the last one counts.

    Raises InvalidRequest that says where the text is wrong. NaN and Infinity are wrong.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # orjson refuses escapes of lone surrogates, which JSON allows and clients do send.
        if b"\\ud" not in text and b"\\uD" not in text:
            raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    return _patient_loads(text)


def _patient_loads(text: bytes) -> object:
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise InvalidRequest("The body is not valid JSON: it is nested too deeply.") from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
